package clock

import (
	"sync"
	"time"
)

const (
	// tick is how often an armed tickAlarm looks at the wall clock: four times
	// a minute, which a laptop's battery and the limit of five wake-ups a
	// minute bear.
	tick = 15 * time.Second
	// stepTolerance is what wall and monotonic time may differ by over a tick
	// before the clock counts as set. Slewing (at most 0.05 %) stays far below.
	stepTolerance = time.Second
)

// tickAlarm is an alarm for systems without timers on wall time. While armed it
// compares the wall clock with the monotonic one every tick: where they parted,
// the clock was set or the machine slept (monotonic time then stood still).
type tickAlarm struct {
	wall func() time.Time

	mu    sync.Mutex
	until time.Time

	changed chan struct{} // until was set
	c       chan struct{}
	quit    chan struct{}
	done    chan struct{}
	close   sync.Once
}

func newTickAlarm(wall func() time.Time) *tickAlarm {
	a := &tickAlarm{
		wall:    wall,
		changed: make(chan struct{}, 1),
		c:       make(chan struct{}, 1),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	go a.run()
	return a
}

func (a *tickAlarm) Set(t time.Time) {
	a.mu.Lock()
	a.until = t
	a.mu.Unlock()
	notify(a.changed)
}

func (a *tickAlarm) C() <-chan struct{} { return a.c }

// Close waits for the alarm's goroutine to end. It may be called again.
func (a *tickAlarm) Close() error {
	a.close.Do(func() { close(a.quit) })
	<-a.done
	return nil
}

func (a *tickAlarm) run() {
	defer close(a.done)
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		timer.Stop()
		start, wallStart := time.Now(), a.wall()
		armed, wait := a.next(wallStart)
		if armed {
			timer.Reset(wait)
		}
		select {
		case <-a.quit:
			return
		case <-a.changed:
		case <-timer.C:
		}
		// Also after Set: a step just before it would otherwise go unnoticed,
		// because the comparison starts afresh.
		if armed && parted(a.wall().Sub(wallStart), time.Since(start)) {
			notify(a.c)
		}
	}
}

// next fires and disarms the alarm when its time has come; otherwise it says how
// long to wait.
func (a *tickAlarm) next(now time.Time) (armed bool, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until.IsZero() {
		return false, 0
	}
	if wait = a.until.Sub(now); wait <= 0 {
		a.until = time.Time{}
		notify(a.c)
		return false, 0
	}
	return true, min(wait, tick)
}

func parted(wall, mono time.Duration) bool {
	return (wall - mono).Abs() > stepTolerance
}
