package watch

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// fakeNotifier is told by the test what happens.
type fakeNotifier struct {
	events chan fsnotify.Event
	lost   chan struct{}

	mu     sync.Mutex
	refuse error // what Add answers
	added  int
	closed bool
}

func newFakeNotifier() *fakeNotifier {
	return &fakeNotifier{events: make(chan fsnotify.Event), lost: make(chan struct{})}
}

func (n *fakeNotifier) Add(string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.added++
	return n.refuse
}

func (n *fakeNotifier) setRefuse(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = err
}

func (n *fakeNotifier) adds() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.added
}

func (n *fakeNotifier) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

func (n *fakeNotifier) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return nil
}

func (n *fakeNotifier) Remove(string) error           { return nil }
func (n *fakeNotifier) Events() <-chan fsnotify.Event { return n.events }
func (n *fakeNotifier) Lost() <-chan struct{}         { return n.lost }

func (n *fakeNotifier) written(path string) {
	n.events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
}

// bench is a watcher on a fake notifier in virtual time, with one real file.
type bench struct {
	*Watcher
	*fakeNotifier
	path  string
	log   *buffer
	start time.Time

	mu    sync.Mutex
	calls []time.Duration // since start
}

func (b *bench) called() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, time.Since(b.start))
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// onBench runs test in a bubble. The file holds "one" at first.
func onBench(t *testing.T, create func(n *fakeNotifier) (notifier, error), test func(t *testing.T, b *bench)) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	path := filepath.Join(dir, "file")
	write(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		b := &bench{fakeNotifier: newFakeNotifier(), path: path, log: &buffer{}, start: time.Now()}
		log := slog.New(slog.NewTextHandler(b.log, nil))
		b.Watcher = newWatcher(Options{Log: log}, func() (notifier, error) { return create(b.fakeNotifier) })
		b.Watcher.Add(path, b.called)
		test(t, b)
		if err := b.Watcher.Close(); err != nil {
			t.Error(err)
		}
	})
}

func working(n *fakeNotifier) (notifier, error) { return n, nil }

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bench) expect(t *testing.T, calls ...time.Duration) {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if fmt.Sprint(b.calls) != fmt.Sprint(calls) {
		t.Errorf("called at %v, want %v", b.calls, calls)
	}
}

func TestAnEditorIsNotReportedInTheMiddleOfItsWrite(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		for _, part := range []string{"", "t", "tw", "two"} {
			write(t, b.path, part)
			b.written(b.path)
			pass(50 * time.Millisecond)
		}
		pass(time.Hour)
		b.expect(t, 150*time.Millisecond+quiet)
	})
}

func TestAnEmptyFileInTheMiddleOfASlowWriteIsNoChange(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		write(t, b.path, "")
		b.written(b.path)
		pass(300 * time.Millisecond)
		write(t, b.path, "two")
		b.written(b.path)
		pass(time.Hour)
		b.expect(t, 300*time.Millisecond+quiet)
	})
}

func TestAFileThatStaysEmptyIsAChangeAfterAWhile(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		write(t, b.path, "")
		b.written(b.path)
		pass(time.Hour)
		b.expect(t, patience)
	})
}

func TestAFileThatGoesForAMomentIsNoChange(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		must(t, os.Remove(b.path))
		b.events <- fsnotify.Event{Name: b.path, Op: fsnotify.Remove}
		pass(200 * time.Millisecond)
		write(t, b.path, "one")
		b.events <- fsnotify.Event{Name: b.path, Op: fsnotify.Create}
		pass(time.Hour)
		b.expect(t)
	})
}

func TestEventsAreTellingAlsoWhenNothingChanged(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		var calls []time.Duration
		begin := time.Now()
		missing := filepath.Join(filepath.Dir(b.path), "missing")
		for _, path := range []string{b.path, missing} {
			defer b.Watcher.Add(path, func() { calls = append(calls, time.Since(begin)) }, Events)()
		}
		pass(time.Hour)
		calls, begin = nil, time.Now()
		write(t, b.path, "one") // as it was
		b.written(b.path)
		pass(time.Hour)
		if len(calls) != 1 || calls[0] != quiet {
			t.Errorf("written again: called after %v, want %v", calls, quiet)
		}
		calls, begin = nil, time.Now()
		b.events <- fsnotify.Event{Name: missing, Op: fsnotify.Create} // and removed at once
		pass(time.Hour)
		if len(calls) != 1 || calls[0] > time.Second {
			t.Errorf("made and removed: called after %v, want one call within a second", calls)
		}
		b.expect(t) // who wants changes alone hears of nothing
	})
}

func TestAWriterThatNeverPausesIsReportedAllTheSame(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		for i := range 20 { // a second of it
			write(t, b.path, fmt.Sprintf("part %d", i))
			b.written(b.path)
			pass(50 * time.Millisecond)
		}
		pass(time.Hour)
		b.expect(t, patience, time.Second)
	})
}

func TestRemoveWhileAChangeSettlesPreventsTheCall(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		remove := b.Watcher.Add(b.path, func() { t.Error("called after remove") })
		write(t, b.path, "two")
		b.written(b.path)
		pass(quiet / 2)
		remove()
		pass(time.Hour)
		b.expect(t, quiet) // the other watch of the path
	})
}

// asleep wants the loop to wait for nothing but events.
func (b *bench) asleep(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if _, _, wake := b.plan(); !wake.IsZero() {
		t.Errorf("will wake up in %v", time.Until(wake))
	}
}

func TestNothingRunsWhileNothingChanges(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		b.asleep(t)
		b.written(filepath.Join(filepath.Dir(b.path), "neighbour"))
		b.asleep(t)
		b.written(b.path) // the same bytes
		pass(time.Second)
		b.asleep(t)
		write(t, b.path, "two")
		b.written(b.path)
		pass(time.Second)
		b.asleep(t)
	})
}

// hooked does something in the middle of each Add of a path in a new directory,
// while the watcher's state is locked.
type hooked struct {
	*fakeNotifier
	during func()
}

func (h hooked) Add(dir string) error {
	h.during()
	return h.fakeNotifier.Add(dir)
}

func TestTheLoopIsWokenOnlyForWhatIsAddedAndMustBeLookedAt(t *testing.T) {
	t.Parallel()
	w := newWatcher(Options{}, func() (notifier, error) { return newFakeNotifier(), nil })
	must(t, w.Close()) // nobody takes what wakes the loop
	n := newFakeNotifier()
	during := func() {}
	w.tree.n = hooked{n, func() { during() }}
	woken := func() bool {
		w.Add(t.TempDir()+"/file", func() {})
		select {
		case <-w.kick:
			return true
		default:
			return false
		}
	}
	if woken() {
		t.Error("woken for a file that is quietly watched")
	}
	during = func() {
		for e := range w.entries {
			w.suspect(e)
		}
	}
	if !woken() {
		t.Error("not woken for a file that changed while it was added")
	}
	during, w.wakeAt = func() {}, time.Time{}
	n.setRefuse(syscall.ENOSPC)
	if !woken() {
		t.Error("not woken for a file that must be polled")
	}
}

// waysOf has the ways told that are gone, before anybody waits for what was
// found: whether the part to the directory was known.
func (b *bench) waysOf(found func(known bool)) {
	b.resolve = func(path string, known *stretch) route {
		r := resolve(path, known)
		found(known != nil)
		return r
	}
}

func TestTheWayOfAFileIsGoneOnceWhereAllDirectoriesAreWatchedAlready(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		gone := 0
		b.waysOf(func(bool) { gone++ })
		b.Watcher.Add(b.path+"2", func() {})
		if gone != 1 {
			t.Errorf("it was gone %d times", gone)
		}
		gone = 0
		mkdir(t, filepath.Dir(b.path)+"/new")
		b.Watcher.Add(filepath.Dir(b.path)+"/new/file", func() {})
		if gone != 2 {
			t.Errorf("with a directory that was not watched it was gone %d times, want 2", gone)
		}
	})
}

func TestTheWayToADirectoryIsSharedByTheFilesInItForAMomentWithoutEvents(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		var known bool
		b.waysOf(func(k bool) { known = k })
		want := func(path string, want bool, why string) {
			t.Helper()
			if b.Watcher.Add(path, func() {}); known != want {
				t.Errorf("%s: known is %t", why, known)
			}
		}
		dir := filepath.Dir(b.path)
		mkdir(t, dir+"/sub")
		want(dir+"/2", true, "the next file")
		want(dir+"/3", true, "and the next")
		want(dir+"/sub/file", false, "in another directory")
		want(dir+"/sub/2", true, "the next there")
		want("/none", false, "in the root")
		want("/", true, "the root itself, which is in no directory")
		want(dir+"/4", false, "in the first again")
		b.written(dir + "/neighbour")
		synctest.Wait()
		want(dir+"/5", false, "after an event")
		pass(time.Second)
		want(dir+"/6", false, "after a while")
		want(dir+"/7", true, "and the next")
		b.setRefuse(syscall.ENOSPC)
		refused := t.TempDir()
		want(refused+"/1", false, "a directory that is not watched")
		want(refused+"/2", false, "the next there")
	})
}

func TestAChangeOfTheWayBeforeTheWaitingIsSeen(t *testing.T) {
	t.Parallel()
	tells := map[string]func(b *bench, path string, added bool){
		"told of before": func(b *bench, path string, added bool) {
			if !added {
				b.events <- fsnotify.Event{Name: path, Op: fsnotify.Create}
			}
		},
		"told of after": func(b *bench, path string, added bool) {
			if added {
				b.events <- fsnotify.Event{Name: path, Op: fsnotify.Create}
			}
		},
		"lost": func(b *bench, _ string, added bool) {
			if !added {
				b.lost <- struct{}{}
			}
		},
	}
	for _, when := range []struct {
		name    string
		at      int  // the end of which way
		shared  bool // with a neighbour, which is added first
		watched bool // all directories, for others
	}{
		{"on a way of its own", 1, false, true},
		{"on the way that is gone for its neighbour", 1, true, true},
		{"on the way that is gone again for its neighbour", 2, true, false},
		{"on the way that it shares", 2, true, true},
	} {
		for how, tell := range tells {
			t.Run(when.name+" and "+how, func(t *testing.T) {
				t.Parallel()
				onBench(t, working, func(t *testing.T, b *bench) {
					dir := filepath.Dir(b.path)
					current := filepath.Join(dir, "current")
					for _, version := range []string{"v1", "v2"} {
						mkdir(t, filepath.Join(dir, version))
						write(t, filepath.Join(dir, version, "file"), version)
						if when.watched {
							b.Watcher.Add(filepath.Join(dir, version, "other"), func() {})
						}
					}
					link(t, "v1", current)
					ways := 0
					b.waysOf(func(bool) {
						if ways++; ways == when.at {
							link(t, "v2", current+".new")
							rename(t, current+".new", current)
							tell(b, current, false)
							synctest.Wait()
						}
					})
					if when.shared {
						b.Watcher.Add(filepath.Join(current, "neighbour"), func() {})
					}
					called := 0
					b.Watcher.Add(filepath.Join(current, "file"), func() { called++ })
					tell(b, current, true)
					pass(time.Second)
					called = 0
					write(t, filepath.Join(dir, "v2", "file"), "three")
					b.written(filepath.Join(dir, "v2", "file"))
					pass(time.Second)
					if called != 1 {
						t.Errorf("called %d times, want once: the watch is blind", called)
					}
				})
			})
		}
	}
}

// A directory that another is renamed over ends without a word: all that is
// heard is its name in the directory above.
func TestAnotherDirectoryOfTheSamePathIsWatchedInTheOldOnesPlace(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		dir := filepath.Dir(b.path)
		before := b.adds()
		rename(t, dir, dir+".old")
		mkdir(t, dir)
		write(t, b.path, "two")
		b.events <- fsnotify.Event{Name: dir, Op: fsnotify.Create}
		pass(time.Second)
		b.expect(t, quiet)
		if n := b.adds() - before; n != 1 {
			t.Errorf("%d directories were watched anew, want the new one", n)
		}
		b.asleep(t)
	})
}

func TestLostEventsAreMadeUpFor(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		write(t, b.path, "two")
		before := b.adds()
		b.lost <- struct{}{}
		pass(time.Second)
		b.expect(t, quiet)
		if b.adds() == before {
			t.Error("the directories were not watched anew: their watches may be among what was lost")
		}
	})
}

func TestADirectoryInTheRootIsWatchedAnewAfterItWasRenamed(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		before := b.adds()
		// fsnotify joins the root and a name like this.
		b.events <- fsnotify.Event{Name: "//" + split(b.path)[0], Op: fsnotify.Rename}
		pass(time.Second)
		if b.adds() != before+1 {
			t.Errorf("%d directories were watched anew, want one", b.adds()-before)
		}
	})
}

func TestFilesAreReadOnceAMinuteWhenThereIsNoInotifyInstance(t *testing.T) {
	t.Parallel()
	var exhausted atomic.Bool
	exhausted.Store(true)
	create := func(n *fakeNotifier) (notifier, error) {
		if exhausted.Load() {
			return nil, fmt.Errorf("couldn't initialize inotify: %w", syscall.EMFILE)
		}
		return n, nil
	}
	onBench(t, create, func(t *testing.T, b *bench) {
		b.Watcher.Add(b.path+"2", func() {})
		for _, want := range []string{"level=WARN", "fs.inotify.max_user_instances", "once a minute"} {
			if !strings.Contains(b.log.String(), want) {
				t.Errorf("the log does not say %q: %s", want, b.log)
			}
		}
		pass(10 * time.Second)
		write(t, b.path, "two")
		pass(5 * time.Minute)
		b.expect(t, time.Minute+quiet)
		must(t, os.Remove(b.path))
		pass(time.Minute)
		b.expect(t, time.Minute+quiet, 6*time.Minute+patience)
		if n := strings.Count(b.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in the log, want one: %s", n, b.log)
		}

		// An instance becomes free.
		exhausted.Store(false)
		pass(time.Minute)
		if !strings.Contains(b.log.String(), "watched again") {
			t.Errorf("the log does not say that it is over: %s", b.log)
		}
		if _, _, wake := b.plan(); !wake.IsZero() {
			t.Errorf("still polls, next in %v", time.Until(wake))
		}
		write(t, b.path, "three")
		at := time.Since(b.start)
		b.written(b.path)
		pass(time.Second)
		b.expect(t, time.Minute+quiet, 6*time.Minute+patience, at+quiet)
	})
}

func TestFilesAreReadOnceAMinuteWhenInotifyWatchesAreUsedUp(t *testing.T) {
	t.Parallel()
	create := func(n *fakeNotifier) (notifier, error) {
		n.setRefuse(syscall.ENOSPC)
		return n, nil
	}
	onBench(t, create, func(t *testing.T, b *bench) {
		if !strings.Contains(b.log.String(), "fs.inotify.max_user_watches") {
			t.Errorf("the log does not name the sysctl: %s", b.log)
		}
		write(t, b.path, "two")
		pass(2 * time.Minute)
		b.expect(t, time.Minute+quiet)
		b.setRefuse(nil)
		pass(time.Minute)
		if _, _, wake := b.plan(); !wake.IsZero() {
			t.Errorf("still polls, next in %v", time.Until(wake))
		}
		if n := strings.Count(b.log.String(), "\n"); n != 2 {
			t.Errorf("%d lines in the log, want one for the trouble and one for its end: %s", n, b.log)
		}
	})
}

func TestPollingEndsWithTheLastPathThatNeedsIt(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		b.setRefuse(syscall.ENOSPC)
		remove := b.Watcher.Add("/nonexistent/file", func() {}) // only / is on its way, which is watched
		if _, _, wake := b.plan(); !wake.IsZero() {
			t.Error("polls what is watched")
		}
		remove()
		remove = b.Watcher.Add(t.TempDir()+"/file", func() {})
		if _, _, wake := b.plan(); wake.IsZero() {
			t.Error("does not poll what cannot be watched")
		}
		remove()
		if _, _, wake := b.plan(); !wake.IsZero() {
			t.Error("polls nothing")
		}
	})
}

func TestAWatcherThatDiedIsReplaced(t *testing.T) {
	t.Parallel()
	onBench(t, working, func(t *testing.T, b *bench) {
		synctest.Wait() // until the loop reads the channel
		b.Watcher.mu.Lock()
		old := b.events
		b.events = make(chan fsnotify.Event)
		b.Watcher.mu.Unlock()
		close(old)
		write(t, b.path, "two")
		pass(2 * time.Minute)
		b.expect(t, quiet)
		if !b.isClosed() {
			t.Error("what was left of it was not closed")
		}
		write(t, b.path, "three")
		at := time.Since(b.start)
		b.written(b.path)
		pass(time.Second)
		b.expect(t, quiet, at+quiet)
	})
}

func TestAFileSystemThatHangsKeepsNoOtherFileFromBeingWatchedNorTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	far, near := filepath.Join(dir, "far", "file"), filepath.Join(dir, "near", "file")
	for _, path := range []string{far, near} {
		mkdir(t, filepath.Dir(path))
		write(t, path, "one")
	}
	w := newWatcher(Options{}, newNotifier)
	var away atomic.Bool
	back, hung := make(chan struct{}), make(chan struct{}, 1)
	w.resolve = func(path string, known *stretch) route { // as lstat(2) does when a server is away
		if path == far && away.Load() {
			select {
			case hung <- struct{}{}:
			default:
			}
			<-back
		}
		return resolve(path, known)
	}
	farChanged, nearChanged := make(chan struct{}, 10), make(chan struct{}, 10)
	w.Add(far, func() { farChanged <- struct{}{} })
	w.Add(near, func() { nearChanged <- struct{}{} })
	expect := func(c <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatal(what)
		}
	}
	away.Store(true)
	write(t, far, "two")
	expect(hung, "nobody looks")
	write(t, near, "two")
	expect(nearChanged, "the change of another file is not told of")
	away.Store(false)
	close(back)
	expect(farChanged, "the change is not told of when the server is back")

	away.Store(true)
	back = make(chan struct{})
	defer close(back)
	write(t, far, "three")
	expect(hung, "nobody looks")
	closed := make(chan struct{})
	go func() {
		_ = w.Close()
		close(closed)
	}()
	expect(closed, "the end waits for the server")
}
