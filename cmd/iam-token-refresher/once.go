package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/daemon"
)

func (a *app) onceCommand() *cobra.Command {
	timeout := 2 * time.Minute
	cmd := &cobra.Command{
		Use:   "once",
		Short: "Refresh every token once, and exit",
		Long: `Mints, proves and publishes every token once, with retries, and exits: 0 when
each required token is in all its files and what stands at their on_change is
done, 1 otherwise. Nothing is served.`,
		Example: `  iam-token-refresher once --config /etc/iam-token-refresher/config.yaml

  # A token for one job, from an init container for instance:
  iam-token-refresher once --key-file /run/secrets/key.json \
    --cloud-org-id bpfaidqca8vd0m5jl3fp --file /run/token --timeout 30s`,
		Args: noArgs,
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this")
	s := addSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := s.origin(cmd, a)
		if err != nil {
			return err
		}
		if timeout <= 0 {
			return usage(cmd, "--timeout %s: it must be more than 0", timeout)
		}
		var built atomic.Pointer[daemon.Daemon]
		ctx, stop := a.untilTold(cmd.Context(), func() {
			if d := built.Load(); d != nil {
				d.Settle()
			}
		})
		defer stop()
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		d, err := a.build(ctx, from, nil)
		if err != nil {
			return err
		}
		built.Store(d)
		err = d.Once(ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w (gave up after --timeout %s; \"check\" shows each step)", err, timeout)
		}
		return err
	}
	return cmd
}
