package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/watch"
)

// A change that was refused is tried again after a while: the new key may not
// be known everywhere yet, or the cloud is away. These make eight tries in the
// first hour, six in any other: a mint and at most three probes each.
const (
	retryFirst  = 30 * time.Second
	retryFactor = 4
	retryMost   = 10 * time.Minute
)

// watches are the files that the daemon follows.
type watches struct {
	daemon  *Daemon
	watcher *watch.Watcher
	changed chan what
	// removes undo the watches of the plan in force.
	removes map[followed]func()
}

// followed is a file and whose it is: a token's input, or what a sink of it
// writes, or what plans are made of.
type followed struct{ path, token, sink string }

// what changed on disk: a set.
type what uint8

const (
	keys          what = 1 << iota // files that sources are made of
	headers                        // files that probes are made of
	trusted                        // the file of ca_file
	configuration                  // which may name others of all of them
)

// String is what it is called in the log.
func (w what) String() string {
	if w&configuration != 0 {
		return "configuration"
	}
	var names []string
	for i, name := range [...]string{"key", "headers_file", "ca_file"} {
		if w&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " and ")
}

func newWatches(d *Daemon) (*watches, error) {
	w, err := watch.New(watch.Options{Log: d.log.Logger})
	if err != nil {
		return nil, err
	}
	ws := &watches{daemon: d, watcher: w, changed: make(chan what, 1)}
	if path := d.opt.ConfigPath; path != "" {
		w.Add(path, func() { ws.tell(configuration) })
		if !same(d.configured, stat(path)) {
			ws.tell(configuration)
		}
	}
	return ws, nil
}

// stat returns nil where nothing is.
func stat(path string) fs.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// same tells whether a file is what it was; nil is one that was not there.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (ws *watches) close() { _ = ws.watcher.Close() }

// tell passes a change on; what is already waiting to be looked at is joined.
func (ws *watches) tell(c what) {
	for {
		select {
		case ws.changed <- c:
			return
		case waiting := <-ws.changed:
			c |= waiting
		}
	}
}

// follow watches what p is made of and what it writes, and nothing else. What
// was watched before goes on to be: it may have changed already, and not have
// been looked at. What p is made of, and what its tokens read, and has changed
// since the plan was made, before it was watched, is told of. (At the start no
// token has read anything yet.)
func (ws *watches) follow(p *plan) {
	removes := map[followed]func(){}
	var adds []func()
	var mu sync.Mutex // guards removes while adds run
	running := ws.daemon.running.Load()
	add := func(f followed, fn func(), flags ...watch.Flag) {
		if _, ok := removes[f]; ok {
			return
		}
		removes[f] = ws.removes[f]
		delete(ws.removes, f)
		if removes[f] != nil {
			return
		}
		adds = append(adds, func() {
			remove := ws.watcher.Add(f.path, fn, flags...)
			if read, ok := p.read[f.path]; ok && (f.token == "" || running) && !same(read, stat(f.path)) {
				fn()
			}
			mu.Lock()
			defer mu.Unlock()
			removes[f] = remove
		})
	}
	made := map[string]what{}
	for i := range p.cfg.Tokens {
		t, token := &p.cfg.Tokens[i], p.specs[i].Token // what the callbacks hold on to is small
		reads := map[what]any{keys: t.Source.Options}
		if t.Probe != nil {
			reads[headers] = t.Probe.Options
		}
		for of, o := range reads {
			if o, ok := o.(interface{ Rebuild() []string }); ok {
				for _, path := range o.Rebuild() {
					made[path] |= of
				}
			}
		}
		if o, ok := t.Source.Options.(config.Reads); ok {
			for _, path := range o.Inputs() {
				add(followed{path: path, token: token}, func() {
					if ws.daemon.builder.logins.Changed(path) { // by somebody else
						ws.daemon.refreshSoon(token)
					}
				})
			}
		}
		for _, s := range p.specs[i].Sinks {
			if f, ok := s.(interface{ Paths() []string }); ok {
				id := s.ID()
				for _, path := range f.Paths() {
					add(followed{path, token, id}, func() { ws.daemon.refresher.Disturbed(token, id) }, watch.Attrs, watch.Events)
				}
			}
		}
	}
	for key, l := range p.listeners { // not for each token: thousands may be on one socket
		if s, ok := l.server.(unixServer); ok {
			for _, path := range s.Paths() {
				add(followed{path: path, sink: key}, func() { ws.daemon.keepSocket(key) })
			}
		}
	}
	if p.cfg.CAFile != "" {
		made[p.cfg.CAFile] |= trusted
	}
	tells := map[what]func(){} // few, for a thousand keys
	for path, of := range made {
		if tells[of] == nil {
			tells[of] = func() { ws.tell(of) }
		}
		add(followed{path: path}, tells[of])
	}
	sideBySide(len(adds), func(i int) { adds[i]() })
	for _, remove := range ws.removes {
		remove()
	}
	ws.removes, p.read = removes, nil
}

// refreshSoon asks for a refresh and does not wait for it.
func (d *Daemon) refreshSoon(token string) { d.refresher.Request(token) }

// tryChanges carries out changes and returns those to try again, which were
// refused for a reason that may pass, and how long is to be waited before. By
// itself is a try that nobody asked for.
func (d *Daemon) tryChanges(ctx context.Context, pending what, byItself bool) (what, time.Duration) {
	var asked time.Duration
	if pending&configuration != 0 {
		_, err := d.reload(ctx, byItself)
		if err == nil {
			return 0, 0 // the others were read as well
		}
		if errors.As(err, new(needsRestart)) {
			pending &^= configuration
		}
		asked = refresher.AsFailure(err).RetryAfter
	}
	if files := pending &^ configuration; files != 0 { // also beside a configuration that is refused
		if _, err := d.rebuild(ctx, files, byItself); err == nil {
			pending &^= files
		} else {
			asked = max(asked, refresher.AsFailure(err).RetryAfter)
		}
	}
	return pending, asked
}

// retryChanges follows the changes that are noticed.
func (d *Daemon) retryChanges(ctx context.Context) {
	var next retries
	pending := what(0)
	timer := time.NewTimer(0)
	timer.Stop()
	for {
		byItself := false
		select {
		case c := <-d.watches.changed:
			pending, next = pending|c, retries{}
		case <-timer.C:
			byItself = true
		case <-ctx.Done():
			timer.Stop()
			return
		}
		var asked time.Duration
		pending, asked = d.tryChanges(ctx, pending, byItself)
		timer.Stop()
		if pending == 0 || ctx.Err() != nil {
			pending = 0
			continue
		}
		timer.Reset(next.wait(asked))
	}
}

// retries are the tries of a change that is refused. The zero value is before
// the first.
type retries struct{ last time.Duration }

// wait is how long it is to the next, where somebody asked to be left alone.
func (r *retries) wait(asked time.Duration) time.Duration {
	r.last = min(max(retryFactor*r.last, retryFirst), retryMost)
	return max(r.last, asked)
}
