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
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"iam-token-refresher/sink"
)

// envToken names the token for who gives no name.
const envToken = "ITR_TOKEN"

func (a *app) getCommand() *cobra.Command {
	var header, bareValue, wait, watch bool
	var timeout time.Duration
	variable := "YC_TOKEN"
	cmd := &cobra.Command{
		Use:   "get [NAME]",
		Short: "Print a token's value",
		Long: `Prints the current value of a token and a line break, and nothing else. NAME may
be left out where the variable ITR_TOKEN names it, where there is one token only,
or one that is marked "default: true".

The value comes from the daemon's socket. When no daemon is there, or the token
is on no socket, it comes from a file that the configuration publishes it to; a
note on stderr says so, because nobody vouches for that value then.`,
		Example: `  export YC_TOKEN=$(iam-token-refresher get bot)

  # Without the value on any command line:
  iam-token-refresher get bot --header | curl -H @- -H 'X-Cloud-Org-ID: bpfaidqca8vd0m5jl3fp' \
    https://api.tracker.yandex.net/v3/myself

  # The daemon may just be starting:
  iam-token-refresher get bot --wait --timeout 30s

  # Each new version, as soon as there is one:
  iam-token-refresher get bot --watch | while read -r token; do …; done

  # kubectl, in kubeconfig:
  #   exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never,
  #          command: iam-token-refresher, args: [get, bot, --format, exec-credential]}`,
		ValidArgsFunction: a.completeTokens,
		Args:              oneName,
	}
	w := addWhereabouts(cmd)
	output := addOutput(cmd, asValue, asJSON, asHeader, asEnv, asExecCredential)
	f := cmd.Flags()
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "format" {
			name = "output"
		}
		return pflag.NormalizedName(name)
	})
	f.Lookup("output").Usage += "; --format is the same"
	f.BoolVar(&header, "header", false, "the same as -o header: the Authorization header that carries the value")
	f.StringVar(&variable, "env-var", variable, "the variable that -o env sets")
	f.BoolVarP(&bareValue, "no-newline", "n", false, "print no line break after it")
	f.BoolVar(&watch, "watch", false, "go on: print each new version on a line of its own, until interrupted")
	f.BoolVar(&wait, "wait", false, "wait for a daemon and a value that are not there yet")
	f.DurationVar(&timeout, "timeout", 0, "how long the first value may take (default 10s, with --wait no limit)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := printer{format: output.value, variable: variable, newline: !bareValue}
		switch {
		case header && f.Changed("output") && out.format != asHeader, bareValue && f.Changed("output") && out.format != asValue:
			return usage(cmd, "--header and --no-newline mean nothing with -o %s", out.format)
		case watch && bareValue:
			return usage(cmd, "--watch prints lines, which --no-newline takes away: give one of them")
		case f.Changed("timeout") && timeout <= 0:
			return usage(cmd, "--timeout %s: it must be more than 0", timeout)
		case f.Changed("env-var") && out.format != asEnv:
			return usage(cmd, "--env-var means nothing without -o env")
		case header:
			out.format = asHeader
		case out.format == asEnv:
			// Before anybody is asked: the name is the caller's, and no answer mends it.
			if _, err := sink.EnvLine(variable, ""); err != nil {
				return usage(cmd, "--env-var: %w", err)
			}
		case out.format == asExecCredential:
			var err error
			if out.apiVersion, err = execAPIVersion(cmd, a.env(envExecInfo)); err != nil {
				return err
			}
		}
		g, err := a.getter(cmd, w, wait, timeout)
		if err != nil {
			return err
		}
		name, err := g.name(cmd, args)
		if err != nil {
			return err
		}
		if watch {
			return g.watch(cmd.Context(), name, out)
		}
		v, err := g.get(cmd.Context(), name)
		if err != nil {
			return err
		}
		return out.print(a.stdout, v)
	}
	return cmd
}

func (p printer) print(w io.Writer, v value) error {
	text, err := p.text(v, time.Now())
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	return err
}

func oneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, "%q is one argument too many: name one token", args[1])
	}
	return nil
}

// value is what a daemon or a file says of a token; document and etag are how
// the daemon said it.
type value struct {
	Name      string     `json:"name"`
	Value     string     `json:"value"`
	Type      string     `json:"type"`
	ExpiresAt *time.Time `json:"expires_at"`
	document  []byte
	etag      string
}

// getter gets one token's value.
type getter struct {
	*app
	place
	wait  bool      // for what is not there yet, but may come
	until time.Time // when waiting and asking ends
}

// forever is longer than anybody waits.
const forever = 10 * 365 * 24 * time.Hour

func (a *app) getter(cmd *cobra.Command, w *whereabouts, wait bool, timeout time.Duration) (*getter, error) {
	p, err := w.ask(cmd, a)
	if err != nil {
		return nil, err
	}
	switch {
	case timeout > 0:
	case wait:
		timeout = forever
	default:
		timeout = askTimeout
	}
	return &getter{app: a, place: p, wait: wait, until: time.Now().Add(timeout)}, nil
}

// name is the token that is asked for, the only one there is, or the default.
func (g *getter) name(cmd *cobra.Command, args []string) (string, error) {
	if len(args) == 1 {
		if args[0] == "" {
			return "", usage(cmd, "the name is empty: name a token")
		}
		return args[0], nil
	}
	if name := g.env(envToken); name != "" {
		return name, nil
	}
	names, standard, err := g.names(cmd.Context())
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", errors.New("get a token: there is none that you may read: ask as root, or as a user whom the socket's `allow` names")
	case len(names) == 1:
		return names[0], nil
	case standard != "":
		return standard, nil
	}
	slices.Sort(names)
	return "", usage(cmd, "there are several tokens, name one, or set %s: %s", envToken, list(names, "or"))
}

// names are the tokens there are; standard is the default among them.
func (g *getter) names(ctx context.Context) (names []string, standard string, err error) {
	if g.config != nil && g.mistakes == nil {
		for _, t := range g.config.Tokens {
			names = append(names, t.Name)
			if isDefault(t) {
				standard = t.Name
			}
		}
		return names, standard, nil
	}
	if len(g.sockets) == 0 {
		return nil, "", nil
	}
	ctx, cancel := g.limit(ctx)
	defer cancel()
	c := newClient(g.sockets[0], g.from)
	err = g.retry(ctx, func() error {
		doc, err := c.list(ctx)
		names = nil
		for _, t := range doc.Tokens {
			names = append(names, t.Name)
		}
		return err
	})
	if err == nil && len(names) > 1 {
		if r, err := c.ask(ctx, http.MethodHead, "/v1/tokens/default"); err == nil && r.status != http.StatusNotFound {
			standard = "default"
		}
	}
	return names, standard, err
}

// limit is the time that everything may take. Who waits is told at its end by
// the daemon what there was to wait for.
func (g *getter) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	end := g.until
	if g.wait {
		end = end.Add(askTimeout)
	}
	return context.WithDeadline(ctx, end)
}

// get asks the daemon, and files where there is none.
func (g *getter) get(ctx context.Context, name string) (value, error) {
	path := g.socketFor(name)
	if path == "" {
		if _, known := g.token(name); g.config != nil && g.mistakes == nil && !known {
			return value{}, fmt.Errorf("get token %q: %s has no token of that name", name, g.from)
		}
		return g.fromFile(name, g.noSocket())
	}
	v, _, err := g.first(ctx, name)
	if errors.Is(err, errAbsent) {
		return g.fromFile(name, err)
	}
	return v, err
}

// first is the value that there is now, or that there is first, and who gave it.
func (g *getter) first(ctx context.Context, name string) (v value, c *client, err error) {
	ctx, cancel := g.limit(ctx)
	defer cancel()
	c = newClient(g.socketFor(name), g.from)
	var last error
	err = g.retry(ctx, func() error {
		wait := time.Duration(0)
		if g.wait {
			wait = time.Until(g.until)
		}
		c, _ = g.moved(c, name, last)
		v, last = c.value(ctx, name, "", wait)
		return last
	})
	return v, c, err
}

// moved is who gives the token now. That is somebody else than c, whose answer
// was err, when it is on another socket since a reload.
func (g *getter) moved(c *client, name string, err error) (now *client, moved bool) {
	if g.again == nil || !errors.Is(err, errAbsent) && !errors.Is(err, errUnknown) {
		return c, false
	}
	p, err := g.again()
	if err != nil {
		return c, false
	}
	path := p.socketFor(name)
	if path == "" || path == c.path {
		return c, false
	}
	g.place = p
	return newClient(path, p.from), true
}

// Between attempts to get what is not there yet.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
)

// retry goes on while there is no daemon, or no value, and there is time to wait.
func (g *getter) retry(ctx context.Context, try func() error) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := try()
		left := time.Until(g.until)
		if !errors.Is(err, errAbsent) && !errors.Is(err, errNoValue) || !g.wait || left <= 0 {
			return err
		}
		if !sleep(ctx, min(pause, left)) {
			return err
		}
	}
}

// sleep tells whether it slept for so long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// longestWait is less than the daemon allows.
const longestWait = time.Minute

var (
	// errNoValue says that there is a daemon and nothing to get from it now.
	errNoValue = errors.New("no value")
	// errUnknown says that there is no such token, or none for us.
	errUnknown = errors.New("no such token")
	// errSame says that there is no other version than the known one.
	errSame = errors.New("no new version")
)

// value asks for a version other than the one with the ETag known, if that is
// given. It waits so long for one, longestWait at most.
func (c *client) value(ctx context.Context, name, known string, wait time.Duration) (value, error) {
	header := []string{"Accept", "application/json"}
	if known != "" {
		header = append(header, "If-None-Match", known)
	}
	if s := int(min(wait, longestWait) / time.Second); s > 0 {
		header = append(header, "Prefer", fmt.Sprintf("wait=%d", s))
	}
	r, err := c.ask(ctx, http.MethodGet, "/v1/tokens/"+url.PathEscape(name), header...)
	if err != nil {
		return value{}, err
	}
	switch r.status {
	case http.StatusOK:
	case http.StatusNotModified:
		return value{}, errSame
	case http.StatusNotFound:
		return value{}, asKind{errUnknown, c.refusal(r, "get", name)}
	case http.StatusServiceUnavailable:
		return value{}, asKind{errNoValue, c.refusal(r, "get", name)}
	default:
		return value{}, c.refusal(r, "get", name)
	}
	v := value{document: r.body, etag: r.etag}
	if json.Unmarshal(r.body, &v) != nil || v.Value == "" {
		return value{}, fmt.Errorf("get token %q: the answer on %s holds no value: is that the daemon's socket?", name, c.path)
	}
	return v, nil
}

// asKind is an error of a kind that has no words of its own.
type asKind struct {
	kind error
	error
}

func (e asKind) Unwrap() []error { return []error{e.kind, e.error} }
