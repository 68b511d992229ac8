package daemon

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/store"
	"iam-token-refresher/sink"
)

// CheckResult is one line of a check.
type CheckResult struct {
	Token string // empty for what is about all
	What  string // "config", "state_dir", "status.listen", "source", "mint", "probe", or a sink's ID
	// OK, Warning, Skipped: at most one is set; none means that it failed.
	OK, Warning, Skipped bool
	Detail               string // for people, no secrets
}

// ErrCheckFailed is returned by a check that found something.
var ErrCheckFailed = errors.New("the check failed")

// Check tries everything in the order in which it is needed and reports each
// step: the configuration, where the state and the status are to be, a mint and
// a probe of each token, and whether each sink could be written. It writes
// nothing, and serves nothing. offline stops before anything is asked of the
// cloud.
func (d *Daemon) Check(ctx context.Context, offline bool, report func(CheckResult)) error {
	if d.broken != nil {
		return d.broken
	}
	p := d.plan.Load()
	failed := false
	say := func(r CheckResult) {
		failed = failed || !r.OK && !r.Warning && !r.Skipped
		report(r)
	}
	say(CheckResult{What: "config", OK: true, Detail: plural(len(p.specs), "token")})
	if dir := p.cfg.StateDir; dir != "" {
		say(place("state_dir", store.Check(dir), "can be written"))
	}
	if addr := p.cfg.Status.Listen; addr != "" {
		say(place("status.listen", checkHealth(addr), "can be listened on"))
	}
	for i, spec := range p.specs {
		c := checker{daemon: d, spec: spec, token: p.cfg.Tokens[i], say: func(r CheckResult) {
			r.Token = spec.Token
			say(r)
		}}
		c.say(CheckResult{What: "source", OK: true, Detail: spec.Source.Identity()})
		for _, w := range warnings(&c.token) {
			c.say(CheckResult{What: w.what, Warning: true, Detail: w.text})
		}
		c.value(ctx, offline)
		c.sinks(ctx)
		c.hooks(p.hooks)
	}
	if failed {
		return ErrCheckFailed
	}
	return nil
}

// place is the line of what only one process can have.
func place(what string, err error, fine string) CheckResult {
	const running = " there: fine if it is the running daemon"
	locked := (*store.LockedError)(nil)
	switch {
	case err == nil:
		return CheckResult{What: what, OK: true, Detail: fine}
	case errors.As(err, &locked) && locked.PID != 0:
		return CheckResult{What: what, Warning: true, Detail: fmt.Sprintf("process %d is%s", locked.PID, running)}
	case locked != nil, errors.Is(err, syscall.EADDRINUSE):
		return CheckResult{What: what, Warning: true, Detail: "another process is" + running}
	}
	return CheckResult{What: what, Detail: err.Error()}
}

type checker struct {
	daemon *Daemon
	spec   refresher.Spec
	token  config.Token
	say    func(CheckResult)
}

// value mints and probes.
func (c *checker) value(ctx context.Context, offline bool) {
	if offline {
		c.say(CheckResult{What: "mint", Skipped: true, Detail: "offline"})
		c.say(CheckResult{What: "probe", Skipped: true, Detail: "offline"})
		return
	}
	m, err := c.mint(ctx)
	if err != nil {
		c.say(CheckResult{What: "mint", Detail: err.Error()})
		c.say(CheckResult{What: "probe", Skipped: true, Detail: "there is no value to try"})
		return
	}
	life := "its end is not known"
	if !m.ExpiresAt.IsZero() {
		life = "lives " + time.Until(m.ExpiresAt).Round(time.Second).String()
	}
	c.say(CheckResult{What: "mint", OK: true, Detail: fmt.Sprintf("a value of %d bytes, %s", m.Value.Len(), life)})
	if c.spec.Probe == nil {
		if c.token.Probe != nil {
			c.say(CheckResult{What: "probe", Skipped: true, Detail: "probe: none"})
		}
		return
	}
	f := c.probe(ctx, c.spec.Probe, m.Value)
	r := CheckResult{What: "probe", OK: f.Verdict == refresher.Accepted, Detail: f.Verdict.String() + ": " + f.Reason}
	if f.Verdict == refresher.RejectedAccess {
		if change := c.otherHeader(ctx, m.Value); change != "" {
			r.Detail += "\n" + change
		}
	}
	c.say(r)
}

// mint gets a value, and changes nothing: a login that is kept somewhere is not
// refreshed by a look at it.
func (c *checker) mint(ctx context.Context) (refresher.Minted, error) {
	ctx, cancel := context.WithTimeout(refresher.WithLookOnly(ctx), 30*time.Second)
	defer cancel()
	return c.spec.Source.Mint(ctx)
}

func (c *checker) probe(ctx context.Context, p refresher.Probe, v refresher.Value) refresher.Finding {
	ctx, cancel := context.WithTimeout(ctx, max(c.spec.ProbeTimeout, time.Second))
	defer cancel()
	return p.Probe(ctx, v)
}

func (c *checker) sinks(ctx context.Context) {
	for i, s := range c.spec.Sinks {
		err := s.Check(ctx)
		if inUse := new(sink.InUseError); errors.As(err, &inUse) {
			c.say(CheckResult{What: s.ID(), Warning: true, Detail: inUse.By + " listens there: fine if it is the running daemon"})
			continue
		}
		if err != nil {
			c.say(CheckResult{What: s.ID(), Detail: err.Error()})
			continue
		}
		if sink.IsExec(s) { // the configuration does not list it
			c.say(CheckResult{What: s.ID(), OK: true, Detail: "can be started"})
			continue
		}
		if what := everybodyMay(c.token.Sinks[i].Options); what != "" {
			c.say(CheckResult{What: s.ID(), Warning: true, Detail: "every process on this machine may " + what + ": use a socket where that matters"})
			continue
		}
		c.say(CheckResult{What: s.ID(), OK: true, Detail: "can be written"})
	}
}

// hooks tells whether what on_change says could be done.
func (c *checker) hooks(hooks []sink.Hook) {
	for _, h := range hooks {
		if h.Token != c.spec.Token {
			continue
		}
		err := h.Action.Check()
		r := CheckResult{What: h.Sink + " on_change", OK: err == nil, Detail: "can be done"}
		if err != nil {
			r.Detail = err.Error()
			r.Warning = errors.As(err, new(*sink.DoubtfulError))
		}
		c.say(r)
	}
}

// everybodyMay says what a sink lets every local process do, if anything.
func everybodyMay(o config.Options) string {
	switch o := o.(type) {
	case *sink.MetadataOptions:
		return "read it"
	case *sink.ProxyOptions:
		if o.TCP() {
			return "act on its behalf"
		}
	}
	return ""
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
