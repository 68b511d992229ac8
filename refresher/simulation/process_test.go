package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing/synctest"
	"time"

	"iam-token-refresher/refresher"
)

// config is what the configuration file says.
type config []wish

// wish is a token in the configuration.
type wish struct {
	token  string
	acct   int
	key    int
	target string
	files  []string
	strict bool // probe.required
	probed bool
}

func (c config) clone() config {
	c = slices.Clone(c)
	for i := range c {
		c[i].files = slices.Clone(c[i].files)
	}
	return c
}

func (c config) find(token string) *wish {
	for i := range c {
		if c[i].token == token {
			return &c[i]
		}
	}
	return nil
}

// instance is one run of the program.
type instance struct {
	w       *world
	number  int
	r       *refresher.Refresher
	dead    bool
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{}
	parts   []*part
	minting int
	ready   bool
	at      time.Duration
}

// part is what the program built of a wish.
type part struct {
	wish   wish
	source *source
	probe  *probe
	files  []*fileSink
	socket *socket
	spec   refresher.Spec
}

func (i *instance) alive() bool {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	return !i.dead
}

func (i *instance) part(token string) *part {
	for _, p := range i.parts {
		if p.wish.token == token {
			return p
		}
	}
	return nil
}

const mintsAtOnce = 3

// every is a schedule with a phase.
func every(d, phase time.Duration) func(time.Time) time.Time {
	return func(t time.Time) time.Time {
		return t.Add(-phase).Truncate(d).Add(d + phase)
	}
}

// build makes new parts, and takes over what is the same as in old.
func (i *instance) build(c config, old []*part) []*part {
	w := i.w
	parts := make([]*part, 0, len(c))
	for _, wi := range c {
		was := &part{}
		if n := slices.IndexFunc(old, func(p *part) bool { return p.wish.token == wi.token }); n >= 0 {
			was = old[n]
		}
		t := w.token(wi.token)
		p := &part{wish: wi, source: was.source, probe: was.probe, socket: was.socket}
		if p.source == nil || was.wish.acct != wi.acct || was.wish.key != wi.key {
			p.source = &source{w: w, inst: i, token: t, acct: w.accounts[wi.acct], key: wi.key, trial: true}
		}
		if p.probe == nil || was.wish.target != wi.target {
			p.probe = &probe{w: w, inst: i, token: t, target: wi.target}
		}
		if p.socket == nil {
			p.socket = &socket{w: w, inst: i, token: t, later: old != nil}
		}
		for _, id := range wi.files {
			n := slices.IndexFunc(was.files, func(s *fileSink) bool { return s.id == id && !s.closed })
			if n >= 0 {
				p.files = append(p.files, was.files[n])
			} else {
				p.files = append(p.files, &fileSink{file: w.files[id], inst: i, later: old != nil})
			}
		}
		p.spec = refresher.Spec{
			Token: wi.token, Required: true, Source: p.source,
			Policy: refresher.Policy{
				Refresh: every(time.Hour, time.Duration(w.chance("phase", wi.acct)*float64(time.Hour))), Jitter: 2 * time.Minute,
				Probed: wi.probed, ProbeRequired: wi.strict, Grace: refresher.DefaultGrace,
			},
			Sinks: []refresher.Sink{p.socket},
		}
		if wi.probed {
			p.spec.Probe = p.probe
			p.spec.Policy.Reprobe = every(15*time.Minute, time.Duration(w.chance("probe phase "+wi.token)*float64(15*time.Minute)))
		}
		for _, s := range p.files {
			p.spec.Sinks = append(p.spec.Sinks, s)
		}
		parts = append(parts, p)
	}
	return parts
}

func specs(parts []*part) []refresher.Spec {
	list := make([]refresher.Spec, len(parts))
	for i, p := range parts {
		list[i] = p.spec
	}
	return list
}

// inForce says that parts are what runs now; w is locked.
func (i *instance) inForce(parts []*part) {
	for _, f := range i.w.files {
		f.listed = false
	}
	for _, p := range parts {
		p.source.trial = false
		for _, s := range p.files {
			s.listed = true
		}
		if old := i.part(p.wish.token); old != nil && (old.source != p.source || old.probe != p.probe) {
			old.source.ended = old.source != p.source
			t := p.source.token
			t.epoch++
			t.mintFrom = 0
			for _, k := range t.known {
				k.rejections, k.witnessed = 0, false
			}
		}
	}
	i.parts = parts
}

// start starts the program; the machine is up.
func (w *world) start() {
	w.mu.Lock()
	w.starts++
	w.sum.starts++
	i := &instance{w: w, number: w.starts, ended: make(chan struct{}), at: w.bubble()}
	w.inst = i
	w.date = nil
	w.killed = make(chan struct{})
	i.inForce(i.build(w.cfg, nil))
	w.touchAll(capWait, capWait, "start")
	w.notef("start %d", w.starts)
	for _, t := range w.tokens {
		t.prev, t.known = nil, map[*value]*known{}
		t.epoch++
	}
	expect := w.restorable()
	w.mu.Unlock()
	i.r = refresher.New(refresher.Options{
		Clock: w.machine, Store: storeOf{&w.store, i}, Log: slog.New(&logs{w: w}), Random: w.random,
		Mints: mintsAtOnce, ProbesPerSecond: refresher.DefaultProbesPerSecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	i.ctx, i.cancel = ctx, cancel
	go func() {
		defer close(i.ended)
		if err := i.r.Run(ctx, specs(i.parts)); err != nil {
			w.mu.Lock()
			w.violated("8", "Run: %v", err)
			w.mu.Unlock()
		}
	}()
	i.observe(i.parts)
	synctest.Wait()
	w.checkRestored(i, expect)
}

// observe has the checks look at tokens after every event of the loop.
func (i *instance) observe(parts []*part) {
	for _, p := range parts {
		name := p.wish.token
		go func() {
			_, _ = i.r.Await(i.ctx, name, func(s refresher.Status) bool {
				i.w.checkStatus(i, s)
				return false
			})
		}()
	}
}

// stop ends the program in the middle of whatever it does.
func (w *world) stop() {
	i := w.inst
	w.mu.Lock()
	if !i.dead {
		i.dead = true
		w.note(func() string { return "the process is killed" }, "killed", 0)
	}
	w.mu.Unlock()
	i.cancel()
	<-i.ended
	w.mu.Lock()
	w.inst = nil
	w.swapping = false
	w.killIn = 0
	w.mu.Unlock()
}

// swap puts another configuration into force, or tries. It takes its time.
func (w *world) swap(change func(c config) config, what string) {
	w.mu.Lock()
	i := w.inst
	if i == nil || i.dead || w.swapping {
		w.mu.Unlock()
		return
	}
	w.swapping = true
	w.sum.swaps++
	next := change(w.cfg.clone())
	parts := i.build(next, i.parts)
	old := i.parts
	w.notef("reload: %s", what)
	w.mu.Unlock()
	go func() {
		err := i.r.Swap(context.Background(), specs(parts))
		w.mu.Lock()
		if i != w.inst || i.dead {
			w.mu.Unlock()
			return
		}
		w.swapping = false
		w.notef("reload ended: %v", err)
		if err != nil {
			for _, p := range parts {
				if p.source.trial {
					p.source.ended = true
				}
			}
			w.mu.Unlock()
			return
		}
		w.cfg = next
		i.inForce(parts)
		var added []*part
		for n, p := range parts {
			o := slices.IndexFunc(old, func(o *part) bool { return o.wish.token == p.wish.token })
			if o < 0 {
				w.touch(p.source.token, capWait, capWait, "added")
				p.source.token.prev, p.source.token.base = nil, nil
				added = append(added, parts[n])
			} else if old[o].source != p.source || old[o].probe != p.probe {
				w.touch(p.source.token, capWait, capWait, "replaced")
			}
			for _, s := range p.files {
				s.freshBy = max(s.freshBy, w.bubble()+capWait)
			}
		}
		w.mu.Unlock()
		i.observe(added)
	}()
}

// logs puts the daemon's own words into the timeline.
type logs struct {
	w     *world
	attrs []slog.Attr
}

func (l *logs) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *logs) WithGroup(string) slog.Handler                    { return l }

func (l *logs) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logs{l.w, append(slices.Clip(l.attrs), attrs...)}
}

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.note(func() string {
		text := "log: "
		for _, a := range l.attrs {
			text += a.Value.String() + ": "
		}
		text += r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
			return true
		})
		return text
	}, r.Message, 0)
	return nil
}
