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

const (
	// orderTimeout covers a mint, a probe and a publish with the queues before
	// them.
	orderTimeout = 2 * time.Minute
	// reloadPatience is how long a reload is waited for without a word.
	reloadPatience = 10 * time.Second
)

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
				return fmt.Errorf("refresh token %q: it is on no socket of %s, where it could be asked for: give it one, or restart the daemon", args[0], p.from)
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
		return "a new value was minted and is waiting for a probe's verdict"
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
	timeout := time.Duration(0)
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration again",
		Long: `Has the running daemon read its configuration again, and says what came of it.
All of a new configuration comes into force, or nothing of it: then the exit code
is 1 and the old one goes on. Root and the user of the daemon may do this.

It waits for the end. What is new is tried first, five tokens a second (unless
limits say otherwise): a thousand take three to four minutes. To stop waiting, by
--timeout or Ctrl-C, stops nothing: the daemon goes on, and logs what comes of it.`,
		Example: `  iam-token-refresher check --config /etc/iam-token-refresher/config.yaml &&
    sudo iam-token-refresher reload`,
		Args: noArgs,
	}
	w := addWhereabouts(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait (default until it has ended)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("timeout") && timeout <= 0 {
			return usage(cmd, "--timeout %s: it must be more than 0", timeout)
		}
		c, err := a.anySocket(cmd, w)
		if err != nil {
			return err
		}
		return a.reload(cmd.Context(), c, timeout, reloadPatience)
	}
	return cmd
}

// reload waits for the end of a reload; not longer than timeout, unless that is
// zero. When it takes longer than patience it says what it waits for.
func (a *app) reload(ctx context.Context, c *client, timeout, patience time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	defer time.AfterFunc(patience, func() {
		say(a.stderr, "note: still waiting for the daemon, which tries what is new; its log says more. It goes on also when you do not wait (Ctrl-C)")
	}).Stop()
	r, err := c.ask(ctx, http.MethodPost, "/v1/reload")
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("reload: not ended within %s; the daemon on %s goes on, and its log says what comes of it", timeout, c.path)
	case err != nil:
		return err
	case r.status != http.StatusOK:
		return c.refusal(r, "reload, the old configuration stays in force", "")
	}
	_, err = fmt.Fprintln(a.stdout, because("reloaded", r.words().Reason))
	return err
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
