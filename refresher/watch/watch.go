// Package watch tells when files change: one watcher per process, on fsnotify.
//
// What is watched is what a path means, not an inode: a change is that reading
// the path gives something else than before. So a file that is replaced by
// rename, Kubernetes' swap of a ..data symlink, an editor that truncates and
// writes, a file or a directory above it that is removed and made again all
// are one change each; the same bytes written again are none. Directories are
// watched, never files, because a watch on a file stays with the inode that
// just lost its name: the file's own directory, each directory above it, and
// those on the way of every symlink.
//
// Without changes nothing runs. The exception are paths that the system refuses
// to watch (inotify's limits, a directory that may not be read): these are read
// again once a minute, and the log says so.
//
// Not noticed before something else changes on the way: a file system that is
// mounted over or unmounted from a watched directory, and changes that other
// machines make on a network file system; inotify does not tell.
package watch

import (
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// quiet is how long nothing must happen to a path before it is looked at,
	// so that a change in several steps is one.
	quiet = 75 * time.Millisecond
	// patience is how long a path that keeps changing, or that is empty or
	// missing and may be so only for the moment, is left alone.
	patience = 500 * time.Millisecond
	// hangsAfter is how long a look at a path is waited for.
	hangsAfter = 2 * time.Second
	// pollEvery is how often paths are looked at that cannot be watched.
	pollEvery = time.Minute
)

// Options configure a Watcher.
type Options struct {
	// Log takes the one warning that files are read once a minute instead of
	// watched, and its end. Nil logs nothing.
	Log *slog.Logger
}

// Flag says what else counts as a change of one path.
type Flag uint8

const (
	// Attrs makes mode, owner, group and whether the last part of the path is a
	// symlink part of what is watched: for files that must stay as they were
	// written. Another hard link goes unnoticed: no directory hears of it.
	Attrs Flag = 1 << iota
	// Events makes everything that happens to the path a change, also when it
	// reads as before afterwards: for who knows better what should be there. The
	// watcher does not read it. A file that is made and removed at once is one
	// such event.
	Events
)

// Watcher watches paths. Its methods may be called concurrently.
type Watcher struct {
	log    *slog.Logger
	create func() (notifier, error)
	// resolve is a variable for tests.
	resolve func(path string, known *stretch) route

	kick chan struct{} // the loop must look at the state below
	quit chan struct{}
	done chan struct{}
	stop sync.Once

	mu       sync.Mutex // not held over reading files, nor while a callback or the log runs
	entries  map[*entry]struct{}
	tree     tree
	beaten   beaten            // by who looked last
	dirty    map[*entry]change // something happened to these
	wakeAt   time.Time         // when to look at dirty; zero: never
	polled   int               // how many entries cannot be watched
	nextPoll time.Time         // zero: no poll
	warned   bool              // the log knows that files are polled
}

// entry is one path that somebody asked for.
type entry struct {
	path string
	fn   func()

	// Owned by who looks at the path: Add first, then the loop.
	last identity

	// Guarded by Watcher.mu.
	steps  []ref
	ready  bool // Add is through
	polled bool

	flags Flag
	gone  atomic.Bool // removed: fn is not called any more
	hangs atomic.Bool // a look at it has not come to its end
}

// New starts a watcher. It works also where the system gives it nothing to watch
// with: it then reads the files once a minute, says so in the log, and tries
// again each time.
func New(opt Options) (*Watcher, error) { return newWatcher(opt, newNotifier), nil }

func newWatcher(opt Options, create func() (notifier, error)) *Watcher {
	log := opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{
		log:     log,
		create:  create,
		resolve: resolve,
		kick:    make(chan struct{}, 1),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		entries: make(map[*entry]struct{}),
		dirty:   make(map[*entry]change),
		tree:    newTree(),
	}
	w.connect()
	go w.run()
	return w
}

// Add watches path, which need not exist. From the moment Add returns fn is
// called once after each change, within a second; a removal is a change too.
// Who also reads the file does so after Add, or may miss what happens between.
//
// The calls come one after another from one goroutine, which watches nothing
// meanwhile: fn should only pass the word on. It may call Add and remove.
//
// remove ends it: no call begins afterwards. One that had begun is not waited
// for. Remove may be called more than once.
func (w *Watcher) Add(path string, fn func(), flags ...Flag) (remove func()) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // an error leaves it as it is: then nothing is there
	}
	e := &entry{path: path, fn: fn}
	for _, f := range flags {
		e.flags |= f
	}
	w.mu.Lock()
	w.entries[e] = struct{}{}
	w.mu.Unlock()

	e.last = w.look(e)

	w.mu.Lock()
	e.ready = true
	if c, ok := w.dirty[e]; ok {
		w.wakeBy(c.due)
	}
	// Of what is quietly watched there is nothing to plan: a thousand files
	// that are added do not turn the loop a thousand times.
	waits := !w.wakeAt.IsZero() || w.polled > 0
	w.mu.Unlock()
	if waits {
		w.wake()
	}
	return func() { w.remove(e) }
}

func (w *Watcher) remove(e *entry) {
	e.gone.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.entries[e]; !ok {
		return
	}
	delete(w.entries, e)
	delete(w.dirty, e)
	w.tree.unlink(e, e.steps)
	e.steps = nil
	if e.polled {
		w.polled--
	}
}

// Close stops watching and waits for a callback that is under way; callbacks
// must not call it. It may be called again.
func (w *Watcher) Close() error {
	w.stop.Do(func() { close(w.quit) })
	<-w.done
	return nil
}

// wake makes the loop look at its state.
func (w *Watcher) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}
