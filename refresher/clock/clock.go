// Package clock is the operating system's clock: wall time, and alarms that
// hold to it.
//
// Deadlines of tokens are wall times. Go's timers count a monotonic clock, which
// stands still while the machine sleeps and does not follow a clock that is set:
// a timer for "in eight hours" that was started before a night's suspend fires
// eight hours too late. On Linux an alarm is therefore a timer of the kernel's
// on CLOCK_REALTIME, which costs nothing while it waits. Where there is none
// (other systems, a seccomp filter) it looks at the clock every 15 seconds.
package clock

import (
	"time"

	"iam-token-refresher/refresher"
)

// System is the clock of the operating system. The zero value is ready.
type System struct{}

var _ refresher.Clock = System{}

// Now is wall time, without a monotonic reading.
func (System) Now() time.Time { return wall() }

// Elapsed is the time since some fixed moment, on a clock that nobody sets and
// that goes on while the machine sleeps.
func (System) Elapsed() time.Duration { return elapsed() }

// NewAlarm returns an alarm for whoever asks; the caller closes it. On Linux it
// is exact. Where the kernel gives no timer it is as good as every 15 seconds
// allow: it fires at its time, but notices only at the next look, and only while
// it is armed, that the clock was set by more than a second or the machine slept.
// The error is always nil.
func (System) NewAlarm() (refresher.Alarm, error) {
	if a, err := newKernelAlarm(); err == nil {
		return a, nil
	}
	return newTickAlarm(wall), nil
}

// started serves elapsed where a sandbox refuses it the system's clock.
var started = time.Now()

// wall drops the monotonic reading: differences of two readings must show what
// the wall clock did, not what passed.
func wall() time.Time { return time.Now().Round(0) }

// notify tells the reader of c to look. One notice that was not read yet is
// enough.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
