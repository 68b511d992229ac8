package main

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/daemon"
	"iam-token-refresher/refresher/probe"
)

func (a *app) checkCommand() *cobra.Command {
	offline, discover := false, ""
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Try everything, and write nothing",
		Long: `Tries for each token what "run" would do: reads the configuration, mints a value,
tries it, and looks whether each place it goes to can be written. It writes and
publishes nothing, and may run beside a daemon.`,
		Example: `  iam-token-refresher check --config /etc/iam-token-refresher/config.yaml

  # Before a reload, or in a pipeline without access to the cloud:
  iam-token-refresher check --offline --config config.yaml

  # Is this organization's id one for cloud_org_id or for org_id?
  iam-token-refresher check --discover-org 1234567`,
		Args: noArgs,
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "ask nothing of the cloud: mint and try no value")
	cmd.Flags().StringVar(&discover, "discover-org", "", "only find out which header of Tracker this organization's `id` belongs in")
	s := addSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if discover != "" && offline {
			return usage(cmd, "--discover-org asks Tracker, and --offline nobody: give one of them")
		}
		if discover != "" {
			if err := (probe.TrackerOptions{OrgID: discover}).Validate(); err != nil {
				return usage(cmd, "--discover-org: %w", err)
			}
		}
		from, err := s.origin(cmd, a)
		if err != nil {
			return err
		}
		var built atomic.Pointer[daemon.Daemon]
		ctx, stop := a.untilTold(cmd.Context(), func() {
			if d := built.Load(); d != nil {
				d.Settle()
			}
		})
		defer stop()
		d, err := a.build(ctx, from, nil)
		if err != nil {
			return err
		}
		built.Store(d)
		list := tickList{app: a, screen: a.screenOf(a.stdout.file)}
		if discover != "" {
			err = d.DiscoverOrg(ctx, discover, list.add)
		} else {
			err = d.Check(ctx, offline, list.add)
		}
		if ctx.Err() != nil {
			return errors.New("the check was interrupted: what is not listed was not tried")
		}
		list.sum()
		if list.failed > 0 {
			return errSaid
		}
		return err
	}
	return cmd
}

// tickList writes the results of a check as they come.
type tickList struct {
	*app
	screen
	token                           string
	passed, warned, failed, skipped int
}

func (l *tickList) add(r daemon.CheckResult) {
	indent := ""
	if r.Token != "" {
		indent = "  "
	}
	if r.Token != l.token {
		l.token = r.Token
		_, _ = fmt.Fprintln(l.stdout, r.Token)
	}
	line := r.What
	if r.Detail != "" {
		line += ": " + strings.ReplaceAll(r.Detail, "\n", "\n"+indent+"     ")
	}
	_, _ = fmt.Fprintf(l.stdout, "%s%s %s\n", indent, l.tick(r), line)
}

func (l *tickList) tick(r daemon.CheckResult) string {
	mark := func(n *int, sign, word, color string) string {
		*n++
		if !l.unicode {
			sign = word
		}
		return l.paint(sign, color)
	}
	switch {
	case r.Skipped:
		return mark(&l.skipped, "–", "skip", dim)
	case r.Warning:
		return mark(&l.warned, "!", "warn", yellow)
	case r.OK:
		return mark(&l.passed, "✓", "ok  ", green)
	}
	return mark(&l.failed, "✗", "FAIL", red)
}

// sum writes the last line.
func (l *tickList) sum() {
	parts := []string{fmt.Sprintf("%d passed", l.passed)}
	for _, p := range []struct {
		n         int
		one, many string
	}{{l.warned, "warning", "warnings"}, {l.skipped, "skipped", "skipped"}, {l.failed, "failed", "failed"}} {
		switch {
		case p.n == 1:
			parts = append(parts, "1 "+p.one)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.many))
		}
	}
	_, _ = fmt.Fprintln(l.stdout, strings.Join(parts, ", "))
}
