package refresher

import (
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
