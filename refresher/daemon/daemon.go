// Package daemon turns a configuration into a running daemon: it builds the
// sources, probes and sinks, runs the refresher over them, follows changes of
// the configuration and of keys, and ends it all. It is the only package that
// knows all others.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/clock"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/process"
	"iam-token-refresher/refresher/redact"
	"iam-token-refresher/refresher/status"
	"iam-token-refresher/refresher/store"
	"iam-token-refresher/sink"
)

// Options are what a [Daemon] is given by its program.
type Options struct {
	// Load reads the configuration, at the start and for each reload, with try
	// as [config.LoadOptions.Try]: what only shows when everything is built, such
	// as a key file that is not there, is a mistake of the configuration too.
	Load func(try func(*config.Config) error) (*config.Config, error)
	// ConfigPath is the file that Load reads, which is watched; empty when
	// there is none.
	ConfigPath string
	// Stderr takes the log. All three are given to the program that exec names.
	Stdin, Stdout, Stderr *os.File
	// Processes is what [Harden] returned; nil: nothing was hardened.
	Processes *Processes
	// Version is the program's.
	Version string
	// Inherited are listening Unix sockets that somebody else bound and holds;
	// nil: those that the service manager passed on ($LISTEN_FDS).
	Inherited []*os.File
	// Repaired, where set, is called by Run when there is a usable configuration
	// after there was none at the start.
	Repaired func(*Daemon)
}

// Daemon is a configuration at work. Its methods may be called concurrently,
// but only one of Run and Once, and once.
type Daemon struct {
	opt     Options
	log     *logging
	filter  redact.Filter
	builder *builder
	times   *status.Durations
	ready   status.Readiness
	manager manager
	hooks   *sink.Hooks
	rung    chan struct{} // the status line may have changed
	unfit   []string      // what was inherited for nothing
	broken  error         // what is wrong with the first configuration
	// configured is what the configuration's file was when it was read.
	configured fs.FileInfo
	reread     chan struct{} // it may have been put right
	// restored is closed when what was saved has been taken up, or never will
	// be: readers who queued over a restart must not get a 503 before.
	restored chan struct{}

	refresher *refresher.Refresher // made by Run and Once
	watches   *watches
	health    *healthListener
	running   atomic.Bool
	closing   sync.WaitGroup  // what a change took out of use
	ending    context.Context // is done once Run ends, for whatever reason: a change ends with it

	mu      sync.Mutex // held for a change
	plan    atomic.Pointer[plan]
	reloads [2]atomic.Uint64  // by success
	refused map[string]string // what was said last, by what was to be changed
}

// New reads the configuration and builds everything, binds nothing and starts
// nothing. Mistakes in the configuration are [config.Errors]; where sockets
// were inherited, it is Run that deals with them, and the others return them.
func New(_ context.Context, opt Options) (*Daemon, error) {
	d := &Daemon{opt: opt, times: status.NewDurations(), refused: map[string]string{}, rung: make(chan struct{}, 1), reread: make(chan struct{}, 1), restored: make(chan struct{})}
	d.builder = &builder{filter: &d.filter, version: opt.Version, seed: maphash.MakeSeed(), live: d.live(), processes: cmp.Or(opt.Processes, process.New()), program: d.programLive}
	d.builder.inherited, d.unfit = inherit(opt.Inherited)
	d.builder.system = readAhead() // while a large configuration is parsed
	p, err := d.load(nil)
	_, _ = d.builder.system() // it has ended, and later plans see what is trusted then
	d.builder.system = systemRoots
	switch {
	case err == nil:
		d.plan.Store(p)
	case len(d.builder.inherited) > 0:
		d.broken = err
	default:
		return nil, err
	}
	return d, nil
}

// load reads the configuration and builds its plan beside old.
func (d *Daemon) load(old *plan) (*plan, error) {
	var built *plan
	d.configured = stat(d.opt.ConfigPath)
	_, err := d.opt.Load(func(cfg *config.Config) error {
		if d.log == nil { // only now it is known how to log
			d.log = newLogging(d.opt.Stderr, cfg.Log, &d.filter)
			d.log.takeLibrary()
			d.builder.log = d.log.Logger
		}
		p, err := d.builder.build(cfg, old)
		built = p
		return err
	})
	if err != nil {
		if built != nil {
			built.discard()
		}
		return nil, err
	}
	return built, nil
}

// live is what the listeners know about the daemon. Before it runs they do not
// listen.
func (d *Daemon) live() sink.Live {
	return sink.Live{
		Now: func() time.Time {
			if r := d.refresher; r != nil {
				return r.Now()
			}
			return clock.System{}.Now()
		},
		Snapshot: func(token string) (refresher.Status, bool) {
			<-d.restored
			return d.refresher.Snapshot(token)
		},
		Report: func(token, lineage string, n uint64) { d.refresher.Report(token, lineage, n) },
		Witness: func(ctx context.Context, token, lineage string, n uint64) {
			d.refresher.Witness(ctx, token, lineage, n)
		},
		Await: func(ctx context.Context, token string, done func(refresher.Status) bool) (refresher.Status, error) {
			return d.refresher.Await(ctx, token, done)
		},
		Refresh: func(ctx context.Context, token string) (refresher.RefreshResult, string, error) {
			o, err := d.refresher.Refresh(ctx, token)
			return o.Result, o.Reason, err
		},
		Reload: func(ctx context.Context) (string, error) {
			// Who gives up waiting may have waited for a thousand tokens to be proven.
			return d.Reload(context.WithoutCancel(ctx))
		},
		Describe: func(readable []refresher.Status, now time.Time) any {
			source := d.source()
			source.Snapshots = func() []refresher.Status { return readable }
			source.Now = func() time.Time { return now }
			return source.Document()
		},
	}
}

// start makes the refresher, over the store if there is to be one. The returned
// function closes the store.
func (d *Daemon) start(p *plan) (end func(), err error) {
	opt := refresher.Options{
		Clock: clock.System{}, Log: d.log.Logger,
		Mints: p.cfg.Limits.Mints, ProbesPerSecond: p.cfg.Limits.ProbesPerSecond,
		OnMint: d.times.Mint, OnProbe: d.times.Probe,
	}
	opt.OnChange = func(s refresher.Status) {
		if d.manager.listens() {
			ring(d.rung)
		}
		d.hooks.Changed(s)
		if p.exec != nil {
			p.exec.Changed(s)
		}
	}
	hooks := sink.HooksOptions{Processes: d.builder.processes, Log: d.log.Logger}
	end = func() {}
	if dir := p.cfg.StateDir; dir != "" {
		s, err := store.Open(dir, store.Options{Log: d.log.Logger})
		if err != nil {
			return nil, err
		}
		opt.Store = &rememberingStore{Store: s, filter: &d.filter}
		hooks.Record = s
		end = func() { _ = s.Close() }
	}
	d.hooks = sink.NewHooks(hooks)
	d.hooks.Set(p.hooks)
	d.refresher = refresher.New(opt)
	return end, nil
}

// Run keeps the tokens fresh and serves them until ctx is done, which is its
// only good end.
func (d *Daemon) Run(ctx context.Context) error {
	if d.broken != nil {
		if err := d.repair(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if d.opt.Repaired != nil {
			d.opt.Repaired(d)
		}
	}
	p := d.plan.Load()
	d.warn(p)
	warnUnfit(d.log.Logger, d.unfit)
	end, err := d.start(p)
	if err != nil {
		return err
	}
	defer end()
	if err := p.listen(d.builder.processes); err != nil {
		return err
	}
	p.show()
	if d.health, err = d.listenHealth(p.cfg.Status.Listen); err != nil {
		p.closeListeners(false)
		return err
	}
	ending, endChanges := context.WithCancel(ctx)
	defer endChanges()
	d.ending = ending
	asked := ctx
	// The program is to have its tokens while it ends: what serves it goes on.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	failed := make(chan error, 1)
	if d.watches, err = newWatches(d); err == nil {
		d.watches.follow(p) // before anything is written: what happens in between would go unnoticed
		running.Go(func() {
			if err := d.refresher.Run(ctx, p.specs); err != nil {
				failed <- err
			}
		})
		d.running.Store(true)
		running.Go(func() {
			_ = d.refresher.Alive(ctx) // its loop turns once all is taken up
			close(d.restored)
			for _, token := range p.unsound {
				d.refreshSoon(token) // which says at once why it cannot be
			}
		})
		running.Go(func() { d.retryChanges(ctx) })
		running.Go(func() { d.announce(ctx) })
		running.Go(func() { d.attend(ctx) })
		running.Go(func() { d.builder.processes.Reap(ctx) })
		running.Go(func() { d.hooks.Run(ctx) })
		run := d.startProgram(asked, p)
		select {
		case err = <-failed:
		case err = <-run.ended:
		case <-asked.Done():
		}
		endChanges() // the end needs its lock
		d.log.Info("stopping")
		d.manager.stopping()
		if last := run.stop(); err == nil {
			err = last
		}
		d.watches.close()
	}
	// Readers get their answers while there is still somebody to give them.
	d.mu.Lock()
	d.running.Store(false)
	d.plan.Load().closeListeners(false)
	d.health.close()
	d.mu.Unlock()
	d.closing.Wait()
	cancel()
	running.Wait()
	d.builder.logins.Wait(loginsTimeout)
	d.plan.Load().closeUnlike(&plan{})
	return err
}

// loginsTimeout is how long the end waits for logins that are just being
// refreshed: nobody else will ever hear of their refresh tokens.
const loginsTimeout = 6 * time.Second

// Settle waits for logins that are just being refreshed, for a program that ends
// without waiting for the rest.
func (d *Daemon) Settle() { d.builder.logins.Wait(loginsTimeout) }

// settleAfter is how long after the start its work has died down.
const settleAfter = 2 * time.Second

// announce says when everything is ready.
func (d *Daemon) announce(ctx context.Context) {
	select {
	case <-d.refresher.Ready():
		d.ready.Reach()
		_ = d.refresher.Alive(ctx) // the last change shows once its turn is over
		d.log.Info("ready", "tokens", len(d.plan.Load().specs))
		d.manager.readyNow(d.line())
	case <-ctx.Done():
		return
	}
	// Not at once: the watcher is about to look at all that was just written.
	select {
	case <-time.After(settleAfter):
		settle()
	case <-ctx.Done():
	}
}

// warn says what is allowed and perhaps not meant.
func (d *Daemon) warn(p *plan) {
	for _, t := range p.cfg.Tokens {
		for _, w := range warnings(&t) {
			d.log.Warn(w.what+": "+w.text, "token", t.Name)
		}
	}
	if p.cfg.StateDir == "" {
		d.log.Debug("no state_dir: a restart mints anew")
	}
}

// Reload reads the configuration again and puts it into force if all of it
// works, otherwise nothing of it. The text says what came of it.
func (d *Daemon) Reload(ctx context.Context) (string, error) {
	if d.plan.Load() == nil {
		ring(d.reread)
		return "", errUnconfigured
	}
	return d.reload(ctx, false)
}

// reload does it, byItself where nobody asked for it.
func (d *Daemon) reload(ctx context.Context, byItself bool) (string, error) {
	return d.change(ctx, configuration.String(), byItself, func(old *plan) (*plan, error) { return d.load(old) })
}

// rebuild does the same for files that sources and probes are made of.
func (d *Daemon) rebuild(ctx context.Context, of what, byItself bool) (string, error) {
	return d.change(ctx, of.String(), byItself, func(old *plan) (*plan, error) {
		p, err := d.builder.build(old.cfg, old)
		return p, named(old.cfg, err)
	})
}

// sinksTimeout is how long a change waits for its sinks to be written.
const sinksTimeout = 5 * time.Second

// errNotRunning is returned for a change before the start or after the end.
var errNotRunning = errors.New("the daemon is not running")

// change makes another plan and swaps it in: listeners are bound and the
// refresher tries what is new before anything is given up.
func (d *Daemon) change(ctx context.Context, what string, byItself bool, build func(old *plan) (*plan, error)) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running.Load() {
		return "", errNotRunning
	}
	d.closing.Wait() // the change may want to listen there again
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ending, cancel)()
	defer d.manager.reloading()()
	old := d.plan.Load()
	next, err := build(old)
	if err == nil {
		if sameParts(old, next) && describe(old.cfg) == describe(next.cfg) {
			// Something may have been in the way of the change before.
			err := next.listen(d.builder.processes)
			if err == nil {
				err = next.setSockets(d.builder.processes)
			}
			if err != nil {
				d.refuse(what, "reloaded: the configuration is unchanged, but a listener could not be put back", err, byItself)
				return "", err
			}
			d.reloads[1].Add(1)
			d.log.Info("reloaded: nothing has changed")
			return "nothing has changed", nil
		}
		d.log.Debug("trying a change", "of", what)
		err = d.swap(ctx, old, next)
	}
	if err != nil {
		d.refuse(what, "new "+what+" refused, the old one stays in force", err, byItself)
		return "", err
	}
	d.reloads[1].Add(1)
	d.waitForSinks(ctx, next)
	d.log.Info(what+" changed", "tokens", len(next.specs))
	return what + " changed", nil
}

// refuse says and counts that a change was refused, but not once more what was
// said of the last try, for one that nobody asked for.
func (d *Daemon) refuse(what, text string, err error, byItself bool) {
	level := slog.LevelError
	if byItself && d.refused[what] == err.Error() {
		level = slog.LevelDebug
	} else {
		d.reloads[0].Add(1)
	}
	d.refused[what] = err.Error()
	d.log.Log(context.Background(), level, text, "error", err)
}

// waitForSinks returns when every sink was tried with what its token has, so
// that whoever asked for the change finds it done.
func (d *Daemon) waitForSinks(ctx context.Context, p *plan) {
	ctx, cancel := context.WithTimeout(ctx, sinksTimeout)
	defer cancel()
	for _, spec := range p.specs {
		_, _ = d.refresher.Await(ctx, spec.Token, func(s refresher.Status) bool {
			// A candidate was proven for the change, and is about to be a version.
			return !s.Candidate && (s.Version == nil || !slices.ContainsFunc(s.Sinks, func(s refresher.SinkStatus) bool {
				return !s.Current && s.Failure == ""
			}))
		})
	}
}

// sameParts tells whether everything was taken over.
func sameParts(a, b *plan) bool {
	if len(a.parts) != len(b.parts) {
		return false
	}
	for key := range a.parts {
		if _, ok := b.parts[key]; !ok {
			return false
		}
	}
	return true
}

func (d *Daemon) swap(ctx context.Context, old, next *plan) error {
	if err := unchangeable(old, next); err != nil {
		next.discard()
		return err
	}
	health := d.health
	err := next.listen(d.builder.processes)
	if err == nil && old.cfg.Status.Listen != next.cfg.Status.Listen {
		health, err = d.listenHealth(next.cfg.Status.Listen)
	}
	if err == nil {
		err = d.refresher.Swap(ctx, next.specs)
	}
	if err != nil {
		if health != d.health {
			health.close()
		}
		next.discard()
		return err
	}
	if err := next.setSockets(d.builder.processes); err != nil { // it was tried before
		d.log.Error("listeners are not as the configuration wants them: reload when this is put right", "error", err)
	}
	next.show()
	d.plan.Store(next)
	d.log.setLevel(next.cfg.Log.Level)
	d.watches.follow(next)
	d.hooks.Set(next.hooks)
	for _, s := range d.snapshots() {
		d.hooks.Changed(s) // what a new sink has taken before its hook was known
	}
	d.retire(old, next)
	if health != d.health {
		d.health.close()
		d.health = health
	}
	d.warn(next)
	return nil
}

// retire closes what next did not take over of old. Whoever asked for the change
// on a listener that goes has the answer yet to come: it is not waited for longer
// than for others, and goes on until that.
func (d *Daemon) retire(old, next *plan) {
	closed := make(chan struct{})
	d.closing.Go(func() {
		defer close(closed)
		ctx, cancel := context.WithTimeout(d.ending, sinksTimeout+closeTimeout)
		defer cancel()
		closeAll(ctx, old.serversBeside(next))
		old.closeUnlike(next)
	})
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-closed:
	case <-timeout.C:
	}
}

// needsRestart is what a reload cannot change, as the error of one that was to.
type needsRestart string

func (what needsRestart) Error() string {
	return string(what) + " cannot change while the daemon runs: restart it"
}

// unchangeable names all that a reload cannot change, and was to.
func unchangeable(old, next *plan) error {
	var names []string
	for _, o := range []struct {
		name    string
		changed bool
	}{
		{"state_dir", old.cfg.StateDir != next.cfg.StateDir},
		{"limits", old.cfg.Limits != next.cfg.Limits},
		{"log.format", old.cfg.Log.Format != next.cfg.Log.Format},
		{"exec (or the organization of a token that it names)", old.exec != next.exec},
	} {
		if o.changed {
			names = append(names, o.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return needsRestart(strings.Join(names, " and "))
}
