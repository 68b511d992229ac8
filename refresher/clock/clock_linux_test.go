package clock

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher"
)

// patience is for machines that are busy with other things.
const patience = 10 * time.Second

func startAlarm(t *testing.T) *kernelAlarm {
	t.Helper()
	a, err := newKernelAlarm()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a.(*kernelAlarm)
}

func mustFire(t *testing.T, a refresher.Alarm) {
	t.Helper()
	select {
	case <-a.C():
	case <-time.After(patience):
		t.Fatal("the alarm did not fire")
	}
}

// remaining is what the kernel says: when the timer will fire next.
func remaining(t *testing.T, a *kernelAlarm) time.Duration {
	t.Helper()
	var spec unix.ItimerSpec
	var getErr error
	err := a.conn.Control(func(fd uintptr) { getErr = unix.TimerfdGettime(int(fd), &spec) })
	if err = errors.Join(err, getErr); err != nil {
		t.Fatal(err)
	}
	return time.Duration(spec.Value.Nano())
}

func TestAlarmFiresAtItsTimeAndNotBefore(t *testing.T) {
	t.Parallel()
	a := startAlarm(t)
	until := wall().Add(30 * time.Millisecond)
	a.Set(until)
	mustFire(t, a)
	if now := wall(); now.Before(until) {
		t.Errorf("fired %v early", until.Sub(now))
	}
}

func TestAlarmFiresAtOnceForThePast(t *testing.T) {
	t.Parallel()
	a := startAlarm(t)
	for _, past := range []time.Time{
		wall(), wall().Add(-time.Hour), time.Unix(0, 1), time.Unix(0, 0), time.Unix(-5, 0), time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC),
	} {
		a.Set(past)
		mustFire(t, a)
	}
}

func TestAlarmFollowsTheLastSet(t *testing.T) {
	t.Parallel()
	a := startAlarm(t)
	near := func(got, want time.Duration) bool { return (got - want).Abs() < patience }

	a.Set(wall().Add(time.Hour))
	a.Set(wall().Add(time.Minute)) // earlier
	if got := remaining(t, a); !near(got, time.Minute) {
		t.Errorf("fires in %v, want a minute", got)
	}
	a.Set(wall().Add(10 * time.Hour)) // later
	if got := remaining(t, a); !near(got, 10*time.Hour) {
		t.Errorf("fires in %v, want ten hours", got)
	}
	a.Set(time.Time{})
	if got := remaining(t, a); got != 0 {
		t.Errorf("fires in %v, want never", got)
	}
	select {
	case <-a.C():
		t.Error("fired although its time never came")
	default:
	}
	a.Set(wall().Add(time.Millisecond))
	mustFire(t, a)
}

func TestAlarmBearsTheFarFuture(t *testing.T) {
	t.Parallel()
	a := startAlarm(t)
	a.Set(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
	if got := remaining(t, a); got < 23*time.Hour {
		t.Errorf("fires in %v", got)
	}
	select {
	case <-a.C():
		t.Error("fired")
	default:
	}
}

func TestFiringsThatNobodyReadCoalesce(t *testing.T) {
	t.Parallel()
	c := make(chan struct{}, 1)
	notify(c)
	notify(c)
	<-c
	select {
	case <-c:
		t.Error("two notices are waiting")
	default:
	}
}

func TestAlarmMayBeSetFromManyGoroutinesWhileItIsClosed(t *testing.T) {
	t.Parallel()
	a := startAlarm(t)
	var setters sync.WaitGroup
	for range 8 {
		setters.Go(func() {
			for i := range 200 {
				a.Set(wall().Add(time.Duration(i%3-1) * time.Hour))
			}
		})
	}
	setters.Go(func() { _ = a.Close() })
	setters.Wait()
}

// answers is a timer whose reads are told beforehand; then it is closed.
type answers struct{ errs []error }

func (r *answers) Read(p []byte) (int, error) {
	if len(r.errs) == 0 {
		return 0, &os.PathError{Op: "read", Path: "timerfd", Err: os.ErrClosed}
	}
	err := r.errs[0]
	r.errs = r.errs[1:]
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: "timerfd", Err: err}
	}
	return len(p), nil
}

func TestASteppedClockFiresTheAlarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := make(chan struct{}, 3)
		relay(&answers{[]error{unix.ECANCELED, nil, unix.ECANCELED}}, c, nil)
		if len(c) != 3 || time.Since(start) != 0 {
			t.Errorf("%d notices in %v of two steps and an expiration", len(c), time.Since(start))
		}
	})
}

func TestAnUnreadableTimerFiresOnceAMinuteInsteadOfDying(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := make(chan struct{}, 9)
		relay(&answers{[]error{unix.EIO, unix.EIO, unix.EIO}}, c, nil)
		if len(c) != 3 || time.Since(start) != 3*time.Minute {
			t.Errorf("%d notices in %v, want 3 in as many minutes", len(c), time.Since(start))
		}
		quit := make(chan struct{})
		close(quit)
		start = time.Now()
		relay(&answers{[]error{unix.EIO, unix.EIO}}, c, quit)
		if time.Since(start) != 0 {
			t.Error("Close had to wait for the minute")
		}
	})
}

// Not parallel: it counts the process's timers.
func TestAlarmsLeaveNoDescriptorAndNoGoroutine(t *testing.T) {
	before := timers(t)
	for range 50 {
		a, err := System{}.NewAlarm()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := a.(*kernelAlarm); !ok {
			t.Fatalf("got a %T", a)
		}
		a.Set(wall().Add(time.Hour))
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-a.(*kernelAlarm).done:
		default:
			t.Fatal("Close did not wait for the goroutine")
		}
		if err := a.Close(); err != nil {
			t.Fatalf("second Close: %v", err)
		}
		a.Set(wall()) // must not touch whoever has the descriptor's number now
	}
	if after := timers(t); after != before {
		t.Errorf("%d timers are open, %d before", after, before)
	}
}

func timers(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(target, "timerfd") {
			n++
		}
	}
	return n
}
