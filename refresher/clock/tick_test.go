package clock

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// steppedClock is the bubble's time plus an offset that tests change, as
// somebody would who sets the machine's clock.
type steppedClock struct{ offset atomic.Int64 }

func (c *steppedClock) now() time.Time {
	return time.Now().Add(time.Duration(c.offset.Load())).Round(0)
}

func (c *steppedClock) step(d time.Duration) { c.offset.Add(int64(d)) }

func startTick(t *testing.T) (*tickAlarm, *steppedClock) {
	t.Helper()
	c := &steppedClock{}
	a := newTickAlarm(c.now)
	t.Cleanup(func() { _ = a.Close() })
	return a, c
}

func waitFor(t *testing.T, a *tickAlarm, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-a.C():
		return time.Since(start)
	case <-time.After(limit):
		t.Fatalf("the alarm did not fire within %v", limit)
		return 0
	}
}

func mustStaySilent(t *testing.T, a *tickAlarm, d time.Duration) {
	t.Helper()
	select {
	case <-a.C():
		t.Fatal("the alarm fired")
	case <-time.After(d):
	}
}

func TestTickAlarmFiresOnceAtItsTime(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Millisecond, tick, 8*time.Hour + time.Second} {
		synctest.Test(t, func(t *testing.T) {
			a, c := startTick(t)
			a.Set(c.now().Add(after))
			if got := waitFor(t, a, 48*time.Hour); got != after {
				t.Errorf("fired after %v, want %v", got, after)
			}
			mustStaySilent(t, a, 24*time.Hour)
		})
	}
}

func TestTickAlarmFiresAtOnceForThePast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, c := startTick(t)
		for _, past := range []time.Time{c.now(), c.now().Add(-time.Hour), time.Unix(0, 0), time.Unix(-1, 0)} {
			a.Set(past)
			if got := waitFor(t, a, time.Hour); got != 0 {
				t.Errorf("fired after %v for %v", got, past)
			}
		}
	})
}

func TestTickAlarmFollowsTheLastSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, c := startTick(t)
		a.Set(c.now().Add(time.Hour))
		a.Set(c.now().Add(time.Minute)) // earlier
		if got := waitFor(t, a, 2*time.Hour); got != time.Minute {
			t.Errorf("fired after %v, want a minute", got)
		}
		a.Set(c.now().Add(time.Minute))
		a.Set(c.now().Add(time.Hour)) // later
		if got := waitFor(t, a, 2*time.Hour); got != time.Hour {
			t.Errorf("fired after %v, want an hour", got)
		}
		a.Set(c.now().Add(time.Minute))
		a.Set(time.Time{})
		mustStaySilent(t, a, 24*time.Hour)
	})
}

func TestTickAlarmNoticesASteppedClockWithinATick(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]time.Duration{
		"forward by an hour":    time.Hour,
		"back by an hour":       -time.Hour,
		"forward by 2 seconds":  2 * time.Second,
		"back by 2 seconds":     -2 * time.Second,
		"forward past its time": 12 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, c := startTick(t)
				a.Set(c.now().Add(8 * time.Hour))
				mustStaySilent(t, a, 10*time.Minute+time.Second)
				c.step(step)
				if got := waitFor(t, a, 24*time.Hour); got > tick {
					t.Errorf("the step was noticed after %v", got)
				}
			})
		})
	}
}

func TestTickAlarmKeepsItsWallTimeAcrossAStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, c := startTick(t)
		until := c.now().Add(8 * time.Hour)
		a.Set(until)
		synctest.Wait()
		c.step(3 * time.Hour)
		waitFor(t, a, 2*tick) // for the step
		waitFor(t, a, 8*time.Hour)
		if late := c.now().Sub(until); late != 0 {
			t.Errorf("fired %v late", late)
		}
	})
}

func TestTickAlarmNoticesAStepJustBeforeSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, c := startTick(t)
		a.Set(c.now().Add(8 * time.Hour))
		synctest.Wait()
		c.step(-time.Hour)
		a.Set(c.now().Add(9 * time.Hour))
		if got := waitFor(t, a, time.Hour); got != 0 {
			t.Errorf("the step was noticed after %v", got)
		}
	})
}

func TestTickAlarmBearsASlewedClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		slewed := func() time.Time { // 500 ppm fast, the most that adjtime does
			return time.Now().Add(time.Since(start) / 2000).Round(0)
		}
		a := newTickAlarm(slewed)
		defer a.Close()
		until := slewed().Add(24 * time.Hour)
		a.Set(until)
		waitFor(t, a, 48*time.Hour)
		if off := slewed().Sub(until).Abs(); off > time.Second {
			t.Errorf("fired %v off", off)
		}
	})
}

func TestDisarmedTickAlarmDoesNotTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		a := newTickAlarm(func() time.Time { looks.Add(1); return time.Now().Round(0) })
		defer a.Close()
		synctest.Wait()
		before := looks.Load()
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if n := looks.Load() - before; n != 0 {
			t.Errorf("looked at the clock %d times while disarmed", n)
		}
	})
}

func TestTickAlarmIsGoneAfterClose(t *testing.T) {
	t.Parallel()
	// synctest fails a test that leaves a goroutine behind.
	synctest.Test(t, func(t *testing.T) {
		a := newTickAlarm(wall)
		a.Set(time.Now().Add(time.Hour))
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		a.Set(time.Now())
		mustStaySilent(t, a, 2*time.Hour)
	})
}
