package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
	"iam-token-refresher/sink"
)

// defaultSocket is where the daemon is looked for when nothing says more.
const defaultSocket = "/run/iam-token-refresher.sock"

// whereabouts are the flags that find a running daemon.
type whereabouts struct{ socket, config *textFlag }

func addWhereabouts(cmd *cobra.Command) *whereabouts {
	w := &whereabouts{socket: &textFlag{kind: "path"}, config: &textFlag{kind: "path"}}
	cmd.Flags().Var(w.socket, "socket", "the daemon's socket (variable ITR_SOCKET)")
	cmd.Flags().Var(w.config, "config", "the daemon's configuration, which names its sockets (variable ITR_CONFIG)")
	return w
}

// place is where a daemon may be asked.
type place struct {
	sockets []string
	from    string         // what named the sockets, for messages
	config  *config.Config // nil when none was read
	status  string         // host:port of the status listener; empty without one
	// mistakes are those of the configuration: there may be more than it tells.
	mistakes config.Errors
	again    func() (place, error) // looks anew: a reload may have moved the daemon
}

// ask is find, for commands that a person waits for.
func (w *whereabouts) ask(cmd *cobra.Command, a *app) (place, error) {
	p, err := w.find(cmd, a)
	if err == nil && p.mistakes != nil && len(p.sockets) > 0 {
		say(a.stderr, fmt.Sprintf("note: %s has mistakes (\"check --offline --config %[1]s\" shows them): what can be read of it says where the daemon is", p.from))
	}
	return p, err
}

// find looks for the daemon: first what was said on the command line, then in
// the environment, then the configuration that "run" would take.
func (w *whereabouts) find(cmd *cobra.Command, a *app) (place, error) {
	p, err := w.look(cmd, a)
	p.again = func() (place, error) { return w.find(cmd, a) }
	return p, err
}

func (w *whereabouts) look(cmd *cobra.Command, a *app) (place, error) {
	switch {
	case w.socket.given && w.config.given:
		return place{}, usage(cmd, "--socket and --config both say where the daemon is: give one of them")
	case w.socket.given && w.socket.value == "", w.config.given && w.config.value == "":
		return place{}, usage(cmd, "--socket or --config has an empty value: name a file")
	case w.socket.given:
		return place{sockets: []string{w.socket.value}, from: "--socket"}, nil
	case w.config.given:
		return a.configured(w.config.value)
	case a.env(config.EnvSocket) != "":
		return place{sockets: []string{a.env(config.EnvSocket)}, from: config.EnvSocket}, nil
	case a.env(config.EnvConfig) != "":
		return a.configured(a.env(config.EnvConfig))
	}
	if p, ok := a.described(); ok {
		return p, nil
	}
	p, err := a.configured(defaultConfigPath)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return place{sockets: []string{defaultSocket}, from: "the usual place"}, nil
	}
	return p, err
}

// described reads the variables that describe the daemon of one token, as in a
// container that has both.
func (a *app) described() (place, bool) {
	p := place{from: "ITR_SOCKET_PATH"}
	for _, f := range config.Flags() {
		value := a.env(f.Env)
		switch {
		case value == "":
		case f.Name == "socket":
			p.sockets = []string{value}
		case f.Name == "status-listen":
			p.status = value
		}
	}
	return p, len(p.sockets) > 0 || p.status != ""
}

// configured reads the daemon's configuration, as well as it can be read.
func (a *app) configured(path string) (place, error) {
	opt := config.LoadOptions{LookupEnv: func(name string) (string, bool) {
		if value, ok := a.lookupEnv(name); ok {
			return value, true
		}
		// Only the daemon has variables such as CREDENTIALS_DIRECTORY; paths
		// below them are seldom what is looked for here.
		return "/${" + name + "}", true
	}}
	p := place{from: path}
	cfg, err := config.Load(path, daemon.Kinds(), opt)
	if errors.As(err, &p.mistakes) {
		if errors.As(err, new(*fs.PathError)) {
			return place{}, err
		}
		cfg = config.Glean(path, daemon.Kinds(), opt)
	}
	p.config, p.status = cfg, cfg.Status.Listen
	for _, t := range cfg.Tokens {
		for _, s := range socketsOf(t) {
			if !slices.Contains(p.sockets, s) {
				p.sockets = append(p.sockets, s)
			}
		}
	}
	return p, nil
}

func socketsOf(t config.Token) (paths []string) {
	for _, s := range t.Sinks {
		if o, ok := s.Options.(*sink.SocketOptions); ok {
			paths = append(paths, o.Path)
		}
	}
	return paths
}

// isDefault tells whether a token is given to who names none.
func isDefault(t config.Token) bool {
	return slices.ContainsFunc(t.Sinks, func(s config.Sink) bool {
		o, ok := s.Options.(*sink.SocketOptions)
		return ok && (o.Default || t.Name == "default")
	})
}

// filesOf are the files that hold a token's value alone.
func filesOf(t config.Token) (paths []string) {
	for _, s := range t.Sinks {
		switch o := s.Options.(type) {
		case *sink.FileOptions:
			if o.Format != "template" {
				paths = append(paths, o.Path)
			}
		case *sink.SetOptions:
			paths = append(paths, o.SetDocument())
		}
	}
	return paths
}

// token finds a token of the configuration.
func (p place) token(name string) (config.Token, bool) {
	if p.config == nil {
		return config.Token{}, false
	}
	i := slices.IndexFunc(p.config.Tokens, func(t config.Token) bool { return t.Name == name })
	if i < 0 {
		return config.Token{}, false
	}
	return p.config.Tokens[i], true
}

// socketFor is the socket that a token is served on: the first one when no
// configuration says which. It is empty when there is none.
func (p place) socketFor(name string) string {
	if t, ok := p.token(name); ok {
		if own := socketsOf(t); len(own) > 0 || p.mistakes == nil {
			return cmp.Or(append(own, "")...)
		}
	}
	return cmp.Or(append(p.sockets, "")...)
}

// noSocket says that a configuration has no socket to ask.
func (p place) noSocket() error {
	if p.mistakes != nil {
		return fmt.Errorf("%w\nThe daemon may be running all the same: name its socket with --socket", p.mistakes)
	}
	return fmt.Errorf("%s names no socket to ask the daemon on: add the sink `socket: {path: %s}` to a token, or name a socket with --socket", p.from, defaultSocket)
}
