package clock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher"
)

// elapsed is CLOCK_BOOTTIME: monotonic time that includes suspends.
func elapsed() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Only a sandbox refuses it (clock_gettime(2) knows it since Linux 2.6.39).
		return time.Since(started)
	}
	return time.Duration(ts.Nano())
}

// unreadable is how long the alarm waits after a read of the timer failed for a
// reason that timerfd_create(2) does not list.
const unreadable = time.Minute

// kernelAlarm is an absolute timerfd on CLOCK_REALTIME. With
// TFD_TIMER_CANCEL_ON_SET the kernel also wakes its reader, with ECANCELED,
// when the clock was set and after a suspend, armed or not; the timer keeps its
// time.
type kernelAlarm struct {
	file *os.File // non-blocking: its reader waits in the runtime's poller, not in a thread
	conn syscall.RawConn
	c    chan struct{}
	quit chan struct{}
	done chan struct{}
	once sync.Once
}

func newKernelAlarm() (refresher.Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create a timer: %w", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("create a timer: %w", err)
	}
	a := &kernelAlarm{
		file: file,
		conn: conn,
		c:    make(chan struct{}, 1),
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	// Steps are reported from now on, not from the first Set. A sandbox may
	// allow the one call and not the other.
	if err := a.arm(time.Time{}); err != nil && !errors.Is(err, unix.ECANCELED) {
		_ = file.Close()
		return nil, fmt.Errorf("arm a timer: %w", err)
	}
	go func() {
		defer close(a.done)
		relay(file, a.c, a.quit)
	}()
	return a, nil
}

func (a *kernelAlarm) Set(t time.Time) {
	err := a.arm(t)
	if err == nil || errors.Is(err, os.ErrClosed) {
		return
	}
	// ECANCELED: the clock was set since the timer was armed last. The timer is
	// armed all the same, but the reader may not hear of it. Whatever else may
	// go wrong, a caller that looks once too often does no harm.
	notify(a.c)
}

func (a *kernelAlarm) arm(t time.Time) error {
	spec := unix.ItimerSpec{Value: expiration(t)}
	var armErr error
	// Control holds the descriptor open against a concurrent Close.
	if err := a.conn.Control(func(fd uintptr) {
		armErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil)
	}); err != nil {
		return err
	}
	return armErr
}

// expiration is t as the kernel wants it. Zero disarms a timerfd, so that the
// epoch and all before it becomes the first nanosecond after it: long past.
func expiration(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	if t.Unix() < 0 || t.Unix() == 0 && t.Nanosecond() == 0 {
		return unix.Timespec{Nsec: 1}
	}
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		// Beyond 2038 where seconds have 32 bits: look again tomorrow.
		return unix.NsecToTimespec(time.Now().Add(24 * time.Hour).UnixNano())
	}
	return ts
}

func (a *kernelAlarm) C() <-chan struct{} { return a.c }

// Close waits for the alarm's goroutine to end. It may be called again.
func (a *kernelAlarm) Close() error {
	var err error
	a.once.Do(func() {
		close(a.quit)
		err = a.file.Close()
	})
	<-a.done
	return err
}

// relay passes on what the timer says until it is closed.
func relay(timer io.Reader, c chan<- struct{}, quit <-chan struct{}) {
	var ticks [8]byte
	for {
		_, err := timer.Read(ticks[:])
		switch {
		case err == nil, errors.Is(err, unix.ECANCELED):
			notify(c)
		case errors.Is(err, os.ErrClosed):
			return
		default:
			// Not known to happen. An alarm that fires for nothing once a
			// minute is better than one that died without a word.
			notify(c)
			select {
			case <-quit:
				return
			case <-time.After(unreadable):
			}
		}
	}
}
