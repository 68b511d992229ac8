package refresher

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// hanging are sinks as many as may be written at once, all of which hang until
// woken is closed.
func hanging() (sinks []Sink, woken chan struct{}) {
	woken = make(chan struct{})
	for i := range diskWorkers {
		sinks = append(sinks, &memorySink{id: fmt.Sprint("hanging", i), block: woken})
	}
	return sinks, woken
}

// look calls f in the loop.
func (g *rig) look(t *testing.T, f func()) {
	t.Helper()
	if err := g.call(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestASinkThatIsRemovedWhileItWaitsIsNotWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		var woken chan struct{}
		g.spec.Sinks, woken = hanging()
		late := newCloud(12 * time.Hour)
		late.identity = "late"
		late.set(nil, func(Value) Finding { time.Sleep(time.Second); return Finding{Verdict: Accepted} })
		sink := &memorySink{id: "waiting"}
		second := g.spec
		second.Token, second.Source, second.Probe, second.Sinks = "second", late, late, []Sink{sink}
		g.run(t, Options{}, second)
		pass(2 * time.Second)
		g.swap(t, func(*Spec) {})
		close(woken)
		synctest.Wait()
		if n := sink.tries(); n != 0 || !sink.closed {
			t.Errorf("written %d times, closed %t", n, sink.closed)
		}
		g.look(t, func() {
			for _, e := range g.wakes {
				if e.gone {
					t.Errorf("%q is still waited for", e.spec.Token) // the loop would turn without end
				}
			}
		})
	})
}

func TestSinksThatHangHoldUpNobodyOnceTheyAreRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		var woken chan struct{}
		g.spec.Sinks, woken = hanging()
		waiting := &memorySink{id: "waiting"}
		g.spec.Sinks = append(g.spec.Sinks, waiting)
		g.run(t, Options{Store: &memoryStore{}})
		pass(publishTimeout / 2)
		g.swap(t, func(s *Spec) { s.Sinks = []Sink{g.sink} })
		if n := waiting.tries(); n != 0 {
			t.Errorf("one that waited was written %d times", n)
		}
		pass(3 * time.Hour)
		if s := g.status(t); s.Version.N != 4 || !s.Sinks[0].Current {
			t.Errorf("three hours later: %+v", s)
		}
		close(woken)
		pass(time.Second)
		g.look(t, func() {
			if g.disk.running != 0 {
				t.Errorf("%d disk workers are counted when none works", g.disk.running)
			}
		})
	})
}

func TestASinkThatFailsIsRetriedAsSoonWhenTheClockWasSetBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.sink.fail(errors.New("not mounted"))
		g.run(t, Options{})
		pass(10 * time.Minute)
		g.clock.step(-3 * time.Hour)
		synctest.Wait()
		g.sink.fail(nil)
		pass(backoffMax)
		if s := g.status(t); s.Version.N != 1 || !s.Sinks[0].Current {
			t.Errorf("version %d: %+v", s.Version.N, s.Sinks[0])
		}
	})
}

// hangingSink takes its time to say what it holds.
type hangingSink struct {
	memorySink
	hang time.Duration
}

func (s *hangingSink) Holds(ctx context.Context, v Version) error {
	time.Sleep(s.hang)
	return s.memorySink.Holds(ctx, v)
}

func TestASinkThatHungAndHoldsWhatItShouldIsFine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		s := &hangingSink{memorySink: memorySink{id: "memory"}}
		g.spec.Sinks = []Sink{s}
		g.run(t, Options{})
		s.hang = publishTimeout + 2*time.Second
		g.Disturbed("bot", "memory")
		pass(publishTimeout + time.Second)
		if s := g.status(t).Sinks[0]; s.Current || s.Failure != errSinkHangs {
			t.Errorf("while it hangs: %+v", s)
		}
		pass(time.Minute)
		if s := g.status(t).Sinks[0]; !s.Current || s.Failure != "" {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestARefreshEndsWhenSinksThatFailedBeforeWereTriedWithTheNewVersion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.sink.fail(errors.New("read-only"))
		g.run(t, Options{})
		pass(20 * time.Minute)
		g.sink.fail(nil)
		if o, err := g.Refresh(t.Context(), "bot"); err != nil || !o.Status.Sinks[0].Current || o.Status.Version.N != 2 {
			t.Errorf("%+v, %v", o, err)
		}
		g.sink.fail(errors.New("read-only again"))
		pass(time.Second)
		if o, err := g.Refresh(t.Context(), "bot"); err != nil || o.Status.Sinks[0].Failure != "read-only again" || o.Status.Version.N != 3 {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

func TestWhatCouldNotBeSavedIsSavedSoonAfterwards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		store := &memoryStore{err: errors.New("no space left")}
		g.run(t, Options{Store: store})
		pass(10 * time.Minute)
		if s := g.status(t); s.StoreFailure != "no space left" || s.Health != Fresh {
			t.Fatalf("%+v", s)
		}
		store.mu.Lock()
		store.err = nil
		store.mu.Unlock()
		pass(5 * time.Minute)
		if s := g.status(t); s.StoreFailure != "" {
			t.Errorf("%+v", s)
		}
		if saved, ok := store.saved["bot"]; !ok || saved.v != *g.status(t).Version {
			t.Errorf("saved is %+v", saved)
		}
	})
}
