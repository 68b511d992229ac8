package refresher

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestJobsLeaveTheirQueueInOrderAndWithoutATrace(t *testing.T) {
	t.Parallel()
	var q queue[func()]
	var ran []int
	for i := range 3 {
		q.push(func() { ran = append(ran, i) })
	}
	all := q
	for len(q) > 0 {
		q.pop()()
	}
	if len(ran) != 3 || ran[0] != 0 || ran[1] != 1 || ran[2] != 2 {
		t.Errorf("ran %v", ran)
	}
	for i, job := range all {
		if job != nil {
			t.Errorf("job %d is still held, with the value that it is about", i)
		}
	}
	if q != nil {
		t.Error("the empty queue holds on to its room")
	}
}

func TestAWishToBeLeftAloneForCenturiesIsObeyedForAnHour(t *testing.T) {
	t.Parallel()
	now, p := noon, hourly()
	s := State{Roll: 0.9}.After(p, Started{Do: Mint}, now).After(p, MintFailed{Failure{Err: errOutage, RetryAfter: math.MaxInt64}}, now)
	if d := Decide(p, s, now.Add(10*time.Second)); d.Do != Wait || !d.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("%s until %s", d.Do, d.Until)
	}
}

// settingClock is set back once, between two looks at it in one turn.
type settingClock struct {
	*fakeClock
	due  time.Time // from when on; zero: never
	look int
}

func (c *settingClock) Now() time.Time {
	if now := c.fakeClock.Now(); c.due.IsZero() || c.look == 0 && now.Before(c.due) {
		return now
	}
	switch c.look++; c.look {
	case 2:
		c.step(-10 * time.Minute)
	case 100_000:
		panic("the loop looks at the clock without end")
	}
	return c.fakeClock.Now()
}

func TestAClockThatIsSetBackInsideATurnEndsTheTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		c := &settingClock{fakeClock: g.clock}
		g.Refresher = New(Options{Clock: c})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = g.Run(ctx, []Spec{g.spec}) })
		synctest.Wait()
		_, before := g.cloud.counts()
		c.due = g.status(t).NextProbe
		pass(c.due.Sub(c.fakeClock.Now()) + 20*time.Minute)
		if _, after := g.cloud.counts(); after == before {
			t.Error("nothing was probed")
		}
		cancel()
		run.Wait()
	})
}
