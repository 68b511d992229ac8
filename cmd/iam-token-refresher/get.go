package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher"
)

func (a *app) getCommand() *cobra.Command {
	var header, bareValue bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "get [NAME]",
		Short: "Print a token's value",
		Long: `Prints the current value of a token and a line break, and nothing else. NAME may
be left out where there is one token only.

The value comes from the daemon's socket. When no daemon is there, or the token
is on no socket, it comes from a file that the configuration publishes it to; a
note on stderr says so, because nobody vouches for that value then.`,
		Example: `  export YC_TOKEN=$(iam-token-refresher get bot)

  # Without the value on any command line:
  iam-token-refresher get bot --header | curl -H @- -H 'X-Cloud-Org-ID: bpfaidqca8vd0m5jl3fp' \
    https://api.tracker.yandex.net/v3/myself

  # The daemon may just be starting:
  iam-token-refresher get bot --wait 30s`,
		ValidArgsFunction: a.completeTokens,
		Args:              oneName,
	}
	w := addWhereabouts(cmd)
	output := addOutput(cmd, "value")
	f := cmd.Flags()
	f.BoolVar(&header, "header", false, "print the Authorization header that carries the value")
	f.BoolVarP(&bareValue, "no-newline", "n", false, "print no line break after it")
	f.DurationVar(&wait, "wait", 0, "wait so long for a daemon and a value that are not there yet")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if output.json() && (header || bareValue) {
			return usage(cmd, "--header and --no-newline mean nothing with -o json")
		}
		if wait < 0 {
			return usage(cmd, "--wait %s: it must not be negative", wait)
		}
		p, err := w.find(cmd, a)
		if err != nil {
			return err
		}
		g := getter{app: a, place: p, wait: wait, until: time.Now().Add(wait)}
		name, err := g.name(cmd, args)
		if err != nil {
			return err
		}
		v, err := g.get(cmd.Context(), name)
		if err != nil {
			return err
		}
		return v.write(a.stdout, output.json(), header, !bareValue)
	}
	return cmd
}

func oneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, "%q is one argument too many: name one token", args[1])
	}
	return nil
}

// value is what a daemon or a file says of a token; document is how the daemon
// said it, nil for a file.
type value struct {
	Name      string     `json:"name"`
	Value     string     `json:"value"`
	Type      string     `json:"type"`
	ExpiresAt *time.Time `json:"expires_at"`
	document  []byte
}

func (v value) write(w io.Writer, asJSON, header, newline bool) error {
	text := v.Value
	switch {
	case asJSON && v.document != nil:
		text = strings.TrimSuffix(string(v.document), "\n")
	case asJSON:
		return writeJSON(w, v)
	case header && v.Type == refresher.TypeOAuth:
		text = "Authorization: OAuth " + text
	case header:
		text = "Authorization: Bearer " + text
	}
	if newline {
		text += "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// getter gets one token's value.
type getter struct {
	*app
	place
	wait  time.Duration
	until time.Time
}

// name is the token that is asked for, or the only one there is.
func (g *getter) name(cmd *cobra.Command, args []string) (string, error) {
	if len(args) == 1 {
		if args[0] == "" {
			return "", usage(cmd, "the name is empty: name a token")
		}
		return args[0], nil
	}
	var names []string
	if g.config != nil {
		for _, t := range g.config.Tokens {
			names = append(names, t.Name)
		}
	} else if len(g.sockets) > 0 {
		ctx, cancel := g.limit(cmd.Context())
		defer cancel()
		c := newClient(g.sockets[0], g.from)
		err := g.retry(ctx, func() error {
			doc, err := c.list(ctx)
			for _, t := range doc.Tokens {
				names = append(names, t.Name)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	switch len(names) {
	case 0:
		return "", errors.New("get a token: there is none that you may read: ask as root, or as a user whom the socket's `allow` names")
	case 1:
		return names[0], nil
	}
	slices.Sort(names)
	return "", usage(cmd, "there are several tokens, name one: %s", strings.Join(names, ", "))
}

// limit is the time that everything may take.
func (g *getter) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(time.Until(g.until), 0)+askTimeout)
}

// get asks the daemon, and files where there is none.
func (g *getter) get(ctx context.Context, name string) (value, error) {
	path := g.socketFor(name)
	if path == "" {
		if _, known := g.token(name); g.config != nil && !known {
			return value{}, fmt.Errorf("get token %q: %s has no token of that name", name, g.from)
		}
		return g.fromFile(name, g.noSocket())
	}
	ctx, cancel := g.limit(ctx)
	defer cancel()
	c := newClient(path, g.from)
	var v value
	err := g.retry(ctx, func() error {
		var err error
		v, err = g.fromSocket(ctx, c, name)
		return err
	})
	if errors.Is(err, errAbsent) {
		return g.fromFile(name, err)
	}
	return v, err
}

// Between attempts to reach a daemon that is not there yet.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
)

// retry goes on while there is no daemon and there is time to wait.
func (g *getter) retry(ctx context.Context, try func() error) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := try()
		if !errors.Is(err, errAbsent) || time.Until(g.until) <= 0 {
			return err
		}
		timer := time.NewTimer(min(pause, time.Until(g.until)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (g *getter) fromSocket(ctx context.Context, c *client, name string) (value, error) {
	header := []string{"Accept", "application/json"}
	if left := time.Until(g.until); left > 0 {
		header = append(header, "Prefer", fmt.Sprintf("wait=%d", int(left.Seconds())+1))
	}
	r, err := c.ask(ctx, http.MethodGet, "/v1/tokens/"+url.PathEscape(name), header...)
	if err != nil {
		return value{}, err
	}
	if r.status != http.StatusOK {
		return value{}, c.refusal(r, "get", name)
	}
	v := value{document: r.body}
	if json.Unmarshal(r.body, &v) != nil || v.Value == "" {
		return value{}, fmt.Errorf("get token %q: the answer on %s holds no value: is that the daemon's socket?", name, c.path)
	}
	return v, nil
}
