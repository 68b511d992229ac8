package refresher

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestARestoredValueIsNotFreshBeforeSomebodyAcceptedIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		store := &memoryStore{}
		g.run(t, Options{Store: store})
		g.stop()
		var probes atomic.Int32
		g.cloud.set(outage, func(Value) Finding {
			if probes.Add(1) == 1 {
				return Finding{Verdict: RejectedToken, Reason: "401"}
			}
			return Finding{Verdict: Unknown, Reason: "away"}
		})
		g.run(t, Options{Store: store})
		for range 4 {
			if s := g.status(t); s.Health != Unchecked {
				t.Errorf("%s after %d probes, none of which accepted it", s.Health, probes.Load())
			}
			pass(30 * time.Minute)
		}
		g.cloud.set(outage, nil)
		pass(10 * time.Minute)
		if s := g.status(t); s.Health != Fresh {
			t.Errorf("%s once it was accepted", s.Health)
		}
	})
}

func TestARefreshThatBringsTheCandidateAgainIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		pass(time.Hour + time.Minute)
		kept := Minted{Value: NewValue("kept by the source"), Type: TypeIAM, ExpiresAt: time.Now().Round(0).Add(12 * time.Hour)}
		g.cloud.set(func(int) (Minted, error) { return kept, nil }, always(Finding{Verdict: Unknown, Reason: "Tracker is away"}))
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			o, err := g.Refresh(ctx, "bot")
			cancel()
			if err != nil || o.Result != ResultHeld || o.Reason != "Tracker is away" {
				t.Errorf("it came to %q (%s), %v", o.Result, o.Reason, err)
			}
			pass(10 * time.Minute)
		}
	})
}

func TestASinkThatCouldNotBeWrittenIsNotContestedByItsFirstChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.sink.fail(errors.New("no directory"))
		g.run(t, Options{})
		pass(30 * time.Minute)
		happens := func() {
			g.Disturbed("bot", "memory")
			synctest.Wait()
		}
		for range restoreMost - 1 { // mkdir, chown
			happens()
		}
		g.sink.fail(nil)
		happens() // chmod
		pass(time.Second)
		g.sink.disturb()
		happens()
		if s := g.status(t).Sinks[0]; s.Contested || !s.Current {
			t.Errorf("after its first change it is %+v", s)
		}
	})
}

// busyStore saves nothing before it may.
type busyStore struct {
	memoryStore
	busy chan struct{}
}

func (s *busyStore) Save(ctx context.Context, token, fingerprint string, v Version, f Finding) error {
	if s.busy != nil {
		<-s.busy
	}
	return s.memoryStore.Save(ctx, token, fingerprint, v, f)
}

// elsewhere is a probe of another API.
type elsewhere struct{ *cloud }

func (elsewhere) Target() string { return "elsewhere" }

func TestAVersionSurvivesARestartAfterItsProbeChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Spec){
		"to another": func(s *Spec) { s.Probe = elsewhere{newCloud(12 * time.Hour)} },
		"to none":    unprobed,
	} {
		for when, saving := range map[string]bool{"": false, " while it was saved": true} {
			t.Run(name+when, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					g := newRig(12 * time.Hour)
					store := &busyStore{}
					g.run(t, Options{Store: store})
					pass(time.Minute)
					kept := Minted{Value: NewValue("second"), Type: TypeIAM, ExpiresAt: time.Now().Round(0).Add(12 * time.Hour)}
					g.cloud.set(func(int) (Minted, error) { return kept, nil }, nil)
					if saving {
						store.busy = make(chan struct{})
					}
					g.Request("bot")
					synctest.Wait()
					change(&g.spec)
					if err := g.Swap(t.Context(), []Spec{g.spec}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if saving {
						close(store.busy)
					}
					pass(time.Minute)
					if s := g.status(t); s.Health != Fresh || !s.DoubtSince.IsZero() {
						t.Errorf("before the restart: %+v", s)
					}
					g.stop()
					g.cloud.set(outage, nil)
					g.run(t, Options{Store: store})
					if s := g.status(t); s.Health != Fresh || s.Version == nil || s.Version.Value != kept.Value {
						t.Errorf("after a restart: %+v", s)
					}
				})
			})
		}
	}
}

// lateStore has its first save end well after everybody has given up waiting,
// and the second fail.
type lateStore struct {
	memoryStore
	saves atomic.Int32
	late  chan struct{}
}

func (s *lateStore) Save(ctx context.Context, token, fingerprint string, v Version, f Finding) error {
	switch s.saves.Add(1) {
	case 1:
		<-s.late
	case 2:
		return errors.New("no room")
	}
	return s.memoryStore.Save(ctx, token, fingerprint, v, f)
}

func TestASaveThatEndsLateLeavesNoTwoValuesWithOneName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		store := &lateStore{late: make(chan struct{})}
		named := map[string]Value{}
		note := func() {
			t.Helper()
			pass(time.Second)
			v := g.status(t).Version
			if was, known := named[v.ETag()]; known && was != v.Value {
				t.Errorf("%s names two values", v.ETag())
			}
			named[v.ETag()] = v.Value
		}
		refresh := func() {
			t.Helper()
			if o, err := g.Refresh(t.Context(), "bot"); err != nil || o.Result != ResultPublished {
				t.Fatalf("the refresh came to %+v, %v", o, err)
			}
		}
		g.run(t, Options{Store: store})
		pass(publishTimeout)
		note()
		close(store.late)
		synctest.Wait()
		refresh()
		note()
		g.stop()
		g.run(t, Options{Store: store})
		note()
		refresh()
		note()
	})
}

func TestARefreshIsAnsweredWhileTheProbeIsNotAllowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		pass(time.Hour + time.Minute)
		g.cloud.set(nil, always(Finding{Verdict: Unknown, Reason: "429", RetryAfter: 40 * time.Minute}))
		refresh := func() RefreshOutcome {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			o, err := g.Refresh(ctx, "bot")
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		refresh()
		asked := g.Now()
		g.cloud.set(nil, nil)
		pass(10 * time.Minute)
		if o := refresh(); o.Result != ResultHeld || !o.Status.Candidate || !strings.Contains(o.Reason, asked.Add(50*time.Minute).Format(time.RFC3339)) {
			t.Errorf("it came to %q (%s), %+v", o.Result, o.Reason, o.Status)
		}
		if n := g.status(t).Refreshes.Of(ResultHeld); n != 1 {
			t.Errorf("%d refreshes are counted as held, where one still is to be judged", n)
		}
		pass(asked.Add(54 * time.Minute).Sub(g.Now()))
		if s := g.status(t); s.Version.N != 3 || s.Candidate {
			t.Errorf("once it was allowed: %+v", s)
		}
		if o := refresh(); o.Result != ResultPublished {
			t.Errorf("then it came to %q (%s)", o.Result, o.Reason)
		}
	})
}
