package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher"
)

// orderTimeout covers a mint, a probe and a publish with the queues before
// them.
const orderTimeout = 2 * time.Minute

func (a *app) refreshCommand() *cobra.Command {
	all := false
	timeout := orderTimeout
	cmd := &cobra.Command{
		Use:   "refresh NAME | --all",
		Short: "Mint, prove and publish now",
		Long: `Has the running daemon refresh tokens now and says what came of it. Root and the
user of the daemon may do this. The exit code is 1 when a refresh failed or its
value was rejected. When the source gives the same value again, nothing is new and
it is not tried anew; "status" says when it was tried last.`,
		Example: `  iam-token-refresher refresh bot
  sudo iam-token-refresher refresh --all --config /etc/iam-token-refresher/config.yaml`,
		ValidArgsFunction: a.completeTokens,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return usage(cmd, "%q stands beside --all: give one of them", args[0])
			case !all && (len(args) == 0 || args[0] == ""):
				return usage(cmd, "which token? Name it, or say --all")
			}
			return oneName(cmd, args)
		},
	}
	w := addWhereabouts(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every token that you may read, one after the other")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long one token may take")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := w.ask(cmd, a)
		if err != nil {
			return err
		}
		if len(p.sockets) == 0 {
			return p.noSocket()
		}
		if timeout <= 0 {
			return usage(cmd, "--timeout %s: it must be more than 0", timeout)
		}
		if !all {
			path := p.socketFor(args[0])
			if path == "" {
				return fmt.Errorf("refresh token %q: it is on no socket of %s; SIGHUP to the daemon does not help either, restart it", args[0], p.from)
			}
			return a.refresh(cmd.Context(), newClient(path, p.from), args[0], timeout)
		}
		doc, missing, err := newSurvey(p).take(cmd.Context())
		if err != nil {
			return err
		}
		for _, note := range missing.words() {
			say(a.stderr, note)
		}
		var problems []error
		for _, t := range doc.Tokens {
			problems = append(problems, a.refresh(cmd.Context(), newClient(p.socketFor(t.Name), p.from), t.Name, timeout))
		}
		return errors.Join(problems...)
	}
	return cmd
}

// refresh refreshes one token and says what came of it.
func (a *app) refresh(ctx context.Context, c *client, name string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := c.ask(ctx, http.MethodPost, "/v1/tokens/"+url.PathEscape(name)+"/refresh")
	if err != nil {
		return err
	}
	if r.status != http.StatusOK {
		return c.refusal(r, "refresh", name)
	}
	w := r.words()
	_, err = fmt.Fprintf(a.stdout, "%s: %s\n", name, because(inWords(refresher.RefreshResult(w.Result)), w.Reason))
	return err
}

func inWords(r refresher.RefreshResult) string {
	switch r {
	case refresher.ResultPublished:
		return "a new version is published"
	case refresher.ResultUnchanged:
		return "nothing new, the published value stays"
	case refresher.ResultHeld:
		return "a new value was minted and waits for its proof"
	}
	return string(r)
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

func (a *app) reloadCommand() *cobra.Command {
	timeout := orderTimeout
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration again",
		Long: `Has the running daemon read its configuration again, and says what came of it.
All of a new configuration comes into force, or nothing of it: then the exit code
is 1 and the old one goes on. Root and the user of the daemon may do this.`,
		Example: `  iam-token-refresher check --config /etc/iam-token-refresher/config.yaml &&
    sudo iam-token-refresher reload`,
		Args: noArgs,
	}
	w := addWhereabouts(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long it may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if timeout <= 0 {
			return usage(cmd, "--timeout %s: it must be more than 0", timeout)
		}
		c, err := a.anySocket(cmd, w)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		r, err := c.ask(ctx, http.MethodPost, "/v1/reload")
		if err != nil {
			return err
		}
		if r.status != http.StatusOK {
			return c.refusal(r, "reload, the old configuration stays in force", "")
		}
		_, err = fmt.Fprintln(a.stdout, because("reloaded", r.words().Reason))
		return err
	}
	return cmd
}

// anySocket is a client of the first socket that there is somebody on. A
// changed configuration may name sockets that are still to come.
func (a *app) anySocket(cmd *cobra.Command, w *whereabouts) (*client, error) {
	p, err := w.ask(cmd, a)
	if err != nil {
		return nil, err
	}
	if len(p.sockets) == 0 {
		return nil, p.noSocket()
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
	defer cancel()
	for _, path := range p.sockets {
		c := newClient(path, p.from)
		if _, err := c.ask(ctx, http.MethodGet, "/v1/tokens"); err == nil {
			return c, nil
		}
	}
	return newClient(p.sockets[0], p.from), nil
}
