package watch

import (
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// grain is the least time between two looks at all that is dirty, so that a
// thousand files that change one after another cost a few looks.
const grain = 25 * time.Millisecond

// tries is how often a look begins anew because the way of the path changed
// under it.
const tries = 5

var errDied = errors.New("the file watcher ended by itself")

// run is the watcher's goroutine. It alone calls callbacks.
func (w *Watcher) run() {
	defer close(w.done)
	defer w.disconnect(nil)
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	for {
		timer.Stop()
		events, lost, wake := w.plan()
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-w.quit:
			return
		case <-w.kick:
		case <-timer.C:
			w.poll()
			w.settle()
		case <-lost:
			w.startOver()
		case ev, ok := <-events:
			if !ok {
				w.disconnect(errDied)
				w.startOver()
				continue
			}
			w.happened(ev)
		}
	}
}

// plan says what the loop waits for.
func (w *Watcher) plan() (events <-chan fsnotify.Event, lost <-chan struct{}, wake time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.tree.n; n != nil {
		events, lost = n.Events(), n.Lost()
	}
	switch {
	case w.polled == 0:
		w.nextPoll = time.Time{}
	case w.nextPoll.IsZero():
		w.nextPoll = time.Now().Add(pollEvery)
	}
	wake = w.wakeAt
	if wake.IsZero() || !w.nextPoll.IsZero() && w.nextPoll.Before(wake) {
		wake = w.nextPoll
	}
	return events, lost, wake
}

// connect tries to get a notifier.
func (w *Watcher) connect() {
	n, err := w.create()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.tree.err = err
		return
	}
	w.tree.n = n
}

func (w *Watcher) disconnect(err error) {
	w.mu.Lock()
	n := w.tree.n
	w.tree.disconnect(err)
	w.mu.Unlock()
	if n != nil {
		_ = n.Close()
	}
}

// happened takes an event of the notifier.
func (w *Watcher) happened(ev fsnotify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.tree.changed(ev) {
		w.suspect(e)
	}
	w.suspectOrphans()
}

// startOver assumes nothing: neither that a path is what it was, nor that a
// directory still has its watch.
func (w *Watcher) startOver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.tree.byID {
		w.tree.drop(d)
	}
	w.suspectOrphans()
}

func (w *Watcher) suspectOrphans() {
	for _, e := range w.tree.orphans {
		w.suspect(e)
	}
	w.tree.orphans = nil
}

// suspect makes the loop look at e when nothing more happens to it for a moment.
func (w *Watcher) suspect(e *entry) {
	if e.gone.Load() {
		return
	}
	now := time.Now()
	c, ok := w.dirty[e]
	if !ok {
		c = change{entry: e, first: now}
	}
	c.due = earlier(now.Add(quiet), c.first.Add(patience))
	w.dirty[e] = c
	if e.ready {
		w.wakeBy(c.due)
	}
}

// wakeBy sees to it that dirty is looked at by t. An earlier look that finds
// nothing due does no harm.
func (w *Watcher) wakeBy(t time.Time) {
	if w.wakeAt.IsZero() || t.Before(w.wakeAt) {
		w.wakeAt = t
	}
}

// change is what is known of an entry in dirty.
type change struct {
	*entry
	first time.Time // when it began
	due   time.Time // when to look at it
}

// settle looks at all that was left in peace long enough.
func (w *Watcher) settle() {
	now := time.Now()
	w.mu.Lock()
	var due []change
	w.wakeAt = time.Time{}
	for e, c := range w.dirty {
		switch {
		case !e.ready: // Add wakes the loop
		case c.due.After(now):
			w.wakeBy(c.due)
		default:
			due = append(due, c)
			delete(w.dirty, e)
		}
	}
	if !w.wakeAt.IsZero() && w.wakeAt.Before(now.Add(grain)) {
		w.wakeAt = now.Add(grain)
	}
	w.mu.Unlock()

	slices.SortFunc(due, func(a, b change) int { return a.due.Compare(b.due) })
	for _, c := range due {
		e := c.entry
		is, ok := w.lookInTime(e)
		if !ok || is == e.last && e.flags&Events == 0 {
			continue
		}
		if until := c.first.Add(patience); is.passing() && now.Before(until) {
			w.mu.Lock()
			if w.suspect(e); !e.gone.Load() {
				w.dirty[e] = change{e, c.first, until}
			}
			w.mu.Unlock()
			continue
		}
		e.last = is
		if !e.gone.Load() {
			e.fn()
		}
	}
}

// poll looks at what cannot be watched, when it is time, and tries to watch it.
// What it finds has to settle like any change.
func (w *Watcher) poll() {
	w.mu.Lock()
	if w.nextPoll.IsZero() || time.Now().Before(w.nextPoll) {
		w.mu.Unlock()
		return
	}
	w.nextPoll = time.Time{}
	connected := w.tree.n != nil
	var polled []*entry
	for e := range w.entries {
		if e.polled && e.ready {
			polled = append(polled, e)
		}
	}
	w.mu.Unlock()

	if !connected {
		w.connect()
	}
	for _, e := range polled {
		if is, ok := w.lookInTime(e); ok && is != e.last {
			w.mu.Lock()
			w.suspect(e)
			w.mu.Unlock()
		}
	}
}

// lookInTime is look, unless the file system of e hangs: nobody else waits for
// that, nor does the end. When it gives an answer after all, e is looked at again.
// It is for the loop.
func (w *Watcher) lookInTime(e *entry) (is identity, ok bool) {
	if e.hangs.Load() {
		return identity{}, false
	}
	looked := make(chan identity, 1)
	go func() {
		is := w.look(e)
		looked <- is
		if e.hangs.CompareAndSwap(true, false) {
			w.mu.Lock()
			w.suspect(e)
			w.mu.Unlock()
			w.wake()
		}
	}()
	timeout := time.NewTimer(hangsAfter)
	defer timeout.Stop()
	select {
	case is := <-looked:
		return is, true
	case <-timeout.C:
	case <-w.quit:
		return identity{}, false
	}
	e.hangs.Store(true)
	select {
	case is := <-looked: // just now
		return is, e.hangs.CompareAndSwap(true, false)
	default:
		w.log.Warn("a file system hangs, changes of the file go unnoticed meanwhile", "path", e.path)
		return identity{}, false
	}
}

// look says what e means now, and has everything watched that may change it.
func (w *Watcher) look(e *entry) identity {
	now, dir := time.Now(), filepath.Dir(e.path)
	w.mu.Lock()
	turns := w.tree.turns
	known := w.beaten.to(dir, turns, now)
	w.mu.Unlock()
	for try := 1; ; try++ {
		r := w.resolve(e.path, known)
		w.mu.Lock()
		if e.gone.Load() {
			w.mu.Unlock()
			return e.last
		}
		sure, err := w.tree.link(e, r.steps, turns)
		if known == nil {
			w.beaten = beaten{dir, turns, now, r.parent}
		}
		turns, known = w.tree.turns, nil
		w.suspectOrphans()
		// Watched too late to be sure that the way did not change meanwhile:
		// once more, until it stays.
		if !sure && try < tries {
			w.mu.Unlock()
			now = time.Now()
			continue
		}
		if !sure {
			w.suspect(e)
		}
		tell := w.setPolled(e, err)
		w.mu.Unlock()
		tell()
		return identify(r, e.flags)
	}
}

// beaten is the way to a directory, for other paths in it. It is as good as one
// found anew while tree.turns is the same, for the reason that link gives: the
// event of a change to it is still to come and will find who waits there. (A
// directory that cannot be watched makes turns grow: link tries each time.) Not
// all changes have events, a mount has none; so it is for a moment only: for the
// paths that are added, or looked at, one after another.
type beaten struct {
	dir   string // as in the paths
	turns uint64 // before the way was gone
	at    time.Time
	way   *stretch
}

// to returns nil when the way to dir must be found anew.
func (b *beaten) to(dir string, turns uint64, now time.Time) *stretch {
	if b.dir != dir || b.turns != turns || now.Sub(b.at) > grain {
		return nil
	}
	return b.way
}

// setPolled notes whether e is polled because of err, or watched. It returns
// what tells the log so when that is news.
func (w *Watcher) setPolled(e *entry, err error) (tell func()) {
	if polled := err != nil; polled != e.polled {
		e.polled = polled
		if polled {
			w.polled++
		} else {
			w.polled--
		}
	}
	switch {
	case err != nil && !w.warned:
		w.warned = true
		return func() {
			w.log.Warn("files cannot be watched and are read again once a minute instead",
				"path", e.path, "error", err, "remedy", remedy(err))
		}
	case w.polled == 0 && w.warned:
		w.warned = false
		return func() { w.log.Info("files are watched again") }
	}
	return func() {}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
