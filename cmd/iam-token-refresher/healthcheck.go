package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/status"
)

func (a *app) healthcheckCommand() *cobra.Command {
	live := false
	timeout := 5 * time.Second
	listen := &textFlag{kind: "address"}
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit with 0 if the daemon is healthy, with 1 if not",
		Long: `Asks the daemon's status listener whether every required token has a valid value
(/readyz), and prints what is wrong. Where it has no such listener it asks the
socket, which knows only the tokens on it. No shell is needed. Of a configuration
with mistakes, which the daemon has not taken over, it reads what it can.`,
		Example: `  HEALTHCHECK CMD ["/iam-token-refresher", "healthcheck", "--config", "/etc/iam-token-refresher/config.yaml"]

  # Is its main loop alive?
  iam-token-refresher healthcheck --live --status-listen 127.0.0.1:9117`,
		Args: noArgs,
	}
	w := addWhereabouts(cmd)
	f := cmd.Flags()
	f.Var(listen, "status-listen", "the daemon's status listener (variable ITR_STATUS_LISTEN)")
	f.BoolVar(&live, "live", false, "ask only whether the daemon is alive (/livez)")
	f.DurationVar(&timeout, "timeout", timeout, "how long it may take")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if timeout <= 0 {
			return usage(cmd, "--timeout %s: it must be more than 0", timeout)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		if value := a.env(envStatusListen); !listen.given && !w.socket.given && !w.config.given && value != "" {
			listen.value, listen.given = value, true
		}
		if listen.given {
			return askListener(ctx, listen.value, live)
		}
		p, err := w.find(cmd, a)
		switch {
		case errors.As(err, new(config.Errors)):
			return unhealthy(err)
		case err != nil:
			return err
		case p.status != "":
			return askListener(ctx, p.status, live)
		case len(p.sockets) == 0 && p.mistakes != nil:
			return unhealthy(p.mistakes)
		case len(p.sockets) == 0:
			return fmt.Errorf("%s names neither a status listener nor a socket to ask: add `status: {listen: \"127.0.0.1:9117\"}`", p.from)
		}
		return askSockets(ctx, p, live)
	}
	return cmd
}

// envStatusListen is the variable of --status-listen.
const envStatusListen = "ITR_STATUS_LISTEN"

// unhealthy is for a configuration that does not tell where the daemon is. The
// exit code is about the daemon, and not about the file: so that is not wrapped.
func unhealthy(mistakes error) error {
	return fmt.Errorf("%v\nThe daemon may be well all the same: name its status listener with --status-listen, or with %s in place of --config", mistakes, envStatusListen)
}

// askListener asks the status listener. The error says what is wrong.
func askListener(ctx context.Context, listen string, live bool) error {
	path, state := "/readyz", "not ready"
	if live {
		path, state = "/livez", "not alive"
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("the status listener %q is not host:port: write for instance 127.0.0.1:9117", listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return fmt.Errorf("the status listener %q is not host:port: write for instance 127.0.0.1:9117", listen)
	}
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req) // never through a proxy
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: the status listener %s does not answer in time: restart the daemon", state, listen)
		}
		return fmt.Errorf("%s: the status listener %s does not answer: %w: is the daemon running?", state, listen, bare(err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	if resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s: the status listener %s answers %d to %s: is that the daemon's?", state, listen, resp.StatusCode, path)
	}
	return fmt.Errorf("%s: %s", state, strings.TrimSpace(string(body)))
}

// askSockets asks for the states of all tokens.
func askSockets(ctx context.Context, p place, live bool) error {
	doc, missing, err := newSurvey(p).take(ctx)
	switch {
	case err != nil:
		return err
	case live:
		return nil
	case len(missing.broken) > 0:
		return fmt.Errorf("not ready: %w", errors.Join(missing.broken...))
	case len(doc.Tokens) == 0:
		return errors.New("not ready: there is no token that you may read: ask as root or as the user of the daemon")
	}
	var without []string
	for _, t := range doc.Tokens {
		if t.Required && !usable(t) {
			without = append(without, t.Name+": "+because(string(t.State), reason(t)))
		}
	}
	if len(without) > 0 {
		return errors.New("not ready: " + strings.Join(without, "\n"))
	}
	return nil
}

// usable tells whether readers are given the token's value.
func usable(t status.Token) bool {
	switch t.State {
	case refresher.Pending, refresher.Revoked, refresher.Expired:
		return false
	}
	return true
}

// reason says why a token is not usable.
func reason(t status.Token) string { return cmp.Or(t.LastFailure, t.VerdictReason, t.Reason) }
