package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/process"
	"iam-token-refresher/refresher/template"
)

// ExecOptions describe a program that runs with values in its environment.
type ExecOptions struct {
	Command []string
	// Env holds templates by name: {{.TOKEN.FIELD}}, or {{.FIELD}} where one
	// token is named.
	Env    map[string]string
	Tokens []ExecToken // that Env names

	// Restart it for newer values, or send it Signal; neither: do nothing.
	Restart bool
	Signal  syscall.Signal
	// EveryVersion: each newer value is a reason; otherwise only one that is
	// needed.
	EveryVersion bool
	Merge        time.Duration
	StopSignal   syscall.Signal
	StopTimeout  time.Duration
	// StartAgain: it is started again after a failure.
	StartAgain bool

	Stdin, Stdout, Stderr *os.File // given to it as they are
}

// ExecToken is a token that a program gets, and the organization it is for.
type ExecToken struct{ Name, Org string }

// ExecLive is what [Exec] needs of the running daemon.
type ExecLive struct {
	Processes *process.Owner
	Log       *slog.Logger
	Clock     refresher.Clock
	// Now is the wall time that expiries are judged by.
	Now func() time.Time
	// Deadline is when a version has to be replaced, zero if never.
	Deadline func(refresher.Version) time.Time
}

// Exec runs one program as long as the daemon lives. It hands out a sink for
// each token that the program gets, and follows their statuses.
type Exec struct {
	opt  ExecOptions
	live ExecLive

	rung    chan struct{} // something of a token has changed
	signals chan os.Signal

	mu    sync.Mutex
	heard map[string]heard // by token
}

// heard is what is known of a token.
type heard struct {
	status refresher.Status
	// bad is the ETag of the newest version that was rejected, denied of the
	// newest that had no access: whoever looks later sees its successor only.
	bad, denied string
}

// NewExec makes an Exec of options that the configuration has checked. It
// starts nothing. Mistakes are [*refresher.Invalid], below the field exec.
func NewExec(o ExecOptions, live ExecLive) (*Exec, error) {
	var errs []error
	if _, err := exec.LookPath(o.Command[0]); err != nil {
		errs = append(errs, &refresher.Invalid{Field: "exec.command", Problem: fmt.Sprintf("%q: %v", o.Command[0], process.ExplainStart(err))})
	}
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		field := "exec.env." + name
		if !isVariableName(name) {
			errs = append(errs, &refresher.Invalid{Field: field, Problem: fmt.Sprintf("%q is not a name of a variable: use letters, digits and _, and no digit first", name)})
			continue
		}
		t, err := template.Parse(o.Env[name], o.fields()...)
		if err != nil {
			errs = append(errs, &refresher.Invalid{Field: field, Problem: err.Error()})
			continue
		}
		for _, token := range o.Tokens {
			if token.Org == "" && (t.Uses(token.Name+".OrgID") || t.Uses("OrgID")) {
				errs = append(errs, checkOrg(field, "{{.OrgID}}", ""))
			}
		}
		if strings.ContainsRune(o.Env[name], 0) {
			errs = append(errs, &refresher.Invalid{Field: field, Problem: "holds a NUL"})
		}
	}
	return &Exec{
		opt: o, live: live, rung: make(chan struct{}, 1), signals: make(chan os.Signal, 16),
		heard: make(map[string]heard, len(o.Tokens)),
	}, errors.Join(errs...)
}

// fields are what templates may use.
func (o ExecOptions) fields() []string {
	var all []string
	for _, token := range o.Tokens {
		for _, field := range templateFields {
			all = append(all, token.Name+"."+field)
		}
	}
	if len(o.Tokens) < 2 {
		all = append(all, templateFields...)
	}
	return all
}

// environment is what the program gets with these versions.
func (o ExecOptions) environment(versions map[string]holding) ([]string, error) {
	env := process.Environment(os.Environ())
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		t, err := template.Parse(o.Env[name], o.fields()...)
		if err != nil {
			return nil, err // it was tried
		}
		value := t.Fill(func(field string) string {
			for _, token := range o.Tokens {
				own, ok := strings.CutPrefix(field, token.Name+".")
				if ok && slices.Contains(templateFields, own) || len(o.Tokens) == 1 && slices.Contains(templateFields, field) {
					if !ok {
						own = field
					}
					return fieldOf(own, versions[token.Name].version, token.Org)
				}
			}
			return ""
		})
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("variable %s: its value holds a NUL, which no environment takes", name)
		}
		env = append(env, name+"="+value)
	}
	return env, nil
}

// Changed takes note of a token's status. It does not block.
func (e *Exec) Changed(st refresher.Status) {
	if !slices.ContainsFunc(e.opt.Tokens, func(t ExecToken) bool { return t.Name == st.Token }) {
		return
	}
	e.mu.Lock()
	h := e.heard[st.Token]
	h.status = st
	if st.Version != nil {
		tag := st.Version.ETag()
		switch st.Health {
		case refresher.Revoked:
			h.bad = tag
		case refresher.NoAccess:
			h.denied = tag
		case refresher.Fresh:
			if h.denied == tag {
				h.denied = ""
			}
			if h.bad == tag {
				h.bad = "" // the API had erred
			}
		}
	}
	e.heard[st.Token] = h
	e.mu.Unlock()
	e.ring()
}

func (e *Exec) ring() {
	select {
	case e.rung <- struct{}{}:
	default:
	}
}

// Signal passes a signal on to the program. SIGTERM is not for passing on: see
// [Exec.Run]. It does not block.
func (e *Exec) Signal(s os.Signal) {
	select {
	case e.signals <- s:
	default: // more than a program can tell apart
	}
}

// For is the sink of one token.
func (e *Exec) For(token string) refresher.Sink { return &execSink{e, token} }

// IsExec tells whether s is the place of a token in a program.
func IsExec(s refresher.Sink) bool {
	_, ok := s.(*execSink)
	return ok
}

// execSink has nothing to write: the program gets what there is when it
// starts.
type execSink struct {
	exec  *Exec
	token string
}

// ID implements [refresher.Sink].
func (s *execSink) ID() string { return "exec:" + s.exec.opt.Command[0] }

// Check implements [refresher.Sink].
func (s *execSink) Check(context.Context) error {
	_, err := exec.LookPath(s.exec.opt.Command[0])
	return process.ExplainStart(err)
}

// Publish implements [refresher.Sink].
func (s *execSink) Publish(context.Context, refresher.Version) error { return nil }

// Close implements [refresher.Sink].
func (s *execSink) Close(context.Context) error { return nil }
