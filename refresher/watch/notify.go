package watch

import (
	"errors"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// notifier is what is used of an fsnotify.Watcher.
type notifier interface {
	Add(dir string) error
	Remove(dir string) error
	// Events is closed when the notifier died.
	Events() <-chan fsnotify.Event
	// Lost receives when events may have been lost.
	Lost() <-chan struct{}
	Close() error
}

// fsNotifier reads the errors of an fsnotify.Watcher in a goroutine of its own:
// on inotify it may report one while it holds the lock that its Add and Remove
// want, and would wait for ever for a reader that is inside one of these.
type fsNotifier struct {
	*fsnotify.Watcher
	lost   chan struct{}
	reader sync.WaitGroup
}

func newNotifier() (notifier, error) {
	fsw, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	n := &fsNotifier{Watcher: fsw, lost: make(chan struct{}, 1)}
	n.reader.Go(func() {
		// Mostly an overflow of the kernel's queue. The others, too, mean that
		// something is not watched as it should be.
		for range fsw.Errors {
			select {
			case n.lost <- struct{}{}:
			default:
			}
		}
	})
	return n, nil
}

func (n *fsNotifier) Events() <-chan fsnotify.Event { return n.Watcher.Events }
func (n *fsNotifier) Lost() <-chan struct{}         { return n.lost }

func (n *fsNotifier) Close() error {
	err := n.Watcher.Close()
	n.reader.Wait()
	return err
}

// remedy is what a person can do about a path that cannot be watched.
func remedy(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "inotify instances or open files are used up: raise the sysctl fs.inotify.max_user_instances, or the limit of open files (ulimit -n)"
	case errors.Is(err, syscall.ENOSPC):
		return "inotify watches are used up: raise the sysctl fs.inotify.max_user_watches"
	case errors.Is(err, syscall.EACCES):
		return "the directory may be entered but not read: give the daemon read permission on it"
	}
	return "none known"
}
