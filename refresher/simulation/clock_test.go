package simulation

import (
	"sync"
	"time"

	"iam-token-refresher/refresher"
)

// machine is the computer that the daemon runs on. Bubble time is what Go's
// timers count; true time is the servers'. Both clocks of the machine run at a
// rate of their own and may be set, or stand still.
type machine struct {
	start time.Time // of the bubble

	mu      sync.Mutex
	missed  time.Duration // true time that passed while nothing ran
	anchor  time.Duration // bubble time of the readings below
	wall    time.Duration // since start
	elapsed time.Duration
	rate    float64
	alarm   *alarm
}

func newMachine() *machine { return &machine{start: time.Now().Round(0), rate: 1} }

func (m *machine) bubble() time.Duration { return time.Since(m.start) }

// rebase brings the readings up to now.
func (m *machine) rebase() {
	now := m.bubble()
	d := time.Duration(float64(now-m.anchor) * m.rate)
	m.wall, m.elapsed, m.anchor = m.wall+d, m.elapsed+d, now
}

// True is the servers' time.
func (m *machine) True() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start.Add(m.bubble() + m.missed)
}

// Now implements [refresher.Clock].
func (m *machine) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rebase()
	return m.start.Add(m.wall)
}

// Elapsed implements [refresher.Clock].
func (m *machine) Elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rebase()
	return m.elapsed
}

// behind is how far the wall clock is behind true time, and how much of true
// time the elapsed clock has missed.
func (m *machine) behind() (wall, elapsed time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rebase()
	now := m.bubble() + m.missed
	return now - m.wall, now - m.elapsed
}

// NewAlarm implements [refresher.Clock].
func (m *machine) NewAlarm() (refresher.Alarm, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alarm = &alarm{m: m, c: make(chan struct{}, 1)}
	return m.alarm, nil
}

// change sets the clocks; fire: the kernel tells those who wait for them.
func (m *machine) change(fire bool, do func()) {
	m.mu.Lock()
	m.rebase()
	do()
	a := m.alarm
	if a != nil {
		a.arm()
	}
	m.mu.Unlock()
	if a != nil && fire {
		a.fire()
	}
}

func (m *machine) suspend(d time.Duration) {
	m.change(true, func() { m.missed += d; m.wall += d; m.elapsed += d })
}
func (m *machine) pause(d time.Duration) { m.change(false, func() { m.missed += d }) }
func (m *machine) step(d time.Duration)  { m.change(true, func() { m.wall += d }) }
func (m *machine) slew(rate float64)     { m.change(false, func() { m.rate = rate }) }

// setRight steps the wall clock to true time, as NTP does.
func (m *machine) setRight() {
	m.change(true, func() { m.wall = m.bubble() + m.missed })
}

type alarm struct {
	m     *machine
	c     chan struct{}
	at    time.Time
	timer *time.Timer
}

func (a *alarm) fire() {
	select {
	case a.c <- struct{}{}:
	default:
	}
}

// arm sets the timer for a.at; the machine is locked and rebased.
func (a *alarm) arm() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if a.at.IsZero() {
		return
	}
	left := a.at.Sub(a.m.start.Add(a.m.wall))
	d := time.Duration(float64(left) / a.m.rate)
	for left > 0 && time.Duration(float64(d)*a.m.rate) < left {
		d++
	}
	a.timer = time.AfterFunc(max(d, 0), a.fire)
}

// Set implements [refresher.Alarm].
func (a *alarm) Set(t time.Time) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	a.m.rebase()
	a.at = t
	a.arm()
}

func (a *alarm) C() <-chan struct{} { return a.c }

func (a *alarm) Close() error {
	a.Set(time.Time{})
	return nil
}
