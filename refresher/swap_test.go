package refresher

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// swap puts a changed spec of the token into force.
func (g *rig) swap(t *testing.T, change func(*Spec)) {
	t.Helper()
	spec := g.spec
	change(&spec)
	if err := g.Swap(context.Background(), []Spec{spec}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// unprobed takes the probe away.
func unprobed(s *Spec) {
	s.Probe = nil
	s.Policy.Probed, s.Policy.Reprobe = false, nil
}

// again is a source that gives v again.
func again(v *Version) func(int) (Minted, error) {
	return func(int) (Minted, error) {
		return Minted{Value: v.Value, Type: v.Type, ExpiresAt: v.ExpiresAt}, nil
	}
}

func TestNothingIsProbedOnceTheProbeIsTakenAway(t *testing.T) {
	t.Parallel()
	rejected := always(Finding{Verdict: RejectedToken, Reason: "401"})
	for name, pending := range map[string]func(t *testing.T, g *rig, v *Version){
		"while a report waits": func(_ *testing.T, g *rig, v *Version) {
			for range 2 {
				g.Report("bot", v.Lineage, v.N)
				synctest.Wait()
			}
		},
		"while a 401 is to be confirmed": func(_ *testing.T, g *rig, v *Version) {
			g.cloud.set(nil, rejected)
			g.Report("bot", v.Lineage, v.N)
			synctest.Wait()
		},
		"while a 401 that we saw waits": func(t *testing.T, g *rig, v *Version) {
			g.cloud.set(nil, always(Finding{Verdict: Unknown, RetryAfter: 10 * time.Minute}))
			g.Report("bot", v.Lineage, v.N)
			synctest.Wait()
			g.Witness(t.Context(), "bot", v.Lineage, v.N)
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.run(t, Options{})
				pass(time.Minute)
				v := g.status(t).Version
				pending(t, g, v)
				g.cloud.set(again(v), nil)
				_, before := g.cloud.counts()
				g.swap(t, unprobed)
				pass(20 * time.Minute)
				if _, after := g.cloud.counts(); after != before {
					t.Errorf("%d probes", after-before)
				}
				if s := g.status(t); s.Health != Fresh || s.Witnessed || !s.DoubtSince.IsZero() {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestAThousandTokensChangeTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		specs := make([]Spec, 1000)
		for i := range specs {
			specs[i] = g.spec
			specs[i].Token, specs[i].Sinks = fmt.Sprint("bot", i), nil
		}
		g.spec = specs[0]
		var out bytes.Buffer
		g.run(t, Options{ProbesPerSecond: DefaultProbesPerSecond, Log: slog.New(slog.NewTextHandler(&out, nil))}, specs[1:]...)
		pass(5 * time.Minute)
		key := newCloud(13 * time.Hour)
		for i := range specs {
			specs[i].Source = key
		}
		if err := g.Swap(t.Context(), specs); err != nil {
			t.Errorf("%.200s", err)
		}
		g.stop()
		if !strings.Contains(out.String(), "takes_at_most=3m50s") {
			t.Error("the log does not say how long that takes")
		}
	})
}

func TestWhatAProbeSaidGoesWithIt(t *testing.T) {
	t.Parallel()
	for _, verdict := range []Verdict{RejectedToken, RejectedAccess} {
		t.Run(verdict.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.run(t, Options{})
				pass(time.Minute)
				v := g.status(t).Version
				g.cloud.set(again(v), always(Finding{Verdict: verdict, Reason: "the wrong organization"}))
				g.Report("bot", v.Lineage, v.N)
				pass(time.Minute)
				g.swap(t, unprobed)
				if s := g.status(t); s.Health != Fresh || s.Version.N != v.N || s.Failures > 0 {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestAVersionThatIsSavedWhileItsProbeIsTakenAwayIsInNoDoubt(t *testing.T) {
	t.Parallel()
	now := time.Now().Round(0)
	for _, verdict := range []Verdict{Unknown, RejectedAccess} {
		s := State{Saving: true}.After(Policy{}, Published{Version: &Version{N: 1}, Finding: Finding{Verdict: verdict}, Reprobe: true}, now)
		if s.Health(now) != Fresh || !s.DoubtSince.IsZero() {
			t.Errorf("%s, in doubt since %v, after %q", s.Health(now), s.DoubtSince, verdict)
		}
	}
}

func TestANewSinkIsGivenNothingOfAnotherAccount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{Store: &memoryStore{}})
		other := newCloud(time.Hour)
		other.identity = "other account"
		added := &memorySink{id: "added"}
		g.swap(t, func(s *Spec) { s.Source, s.Probe, s.Sinks = other, other, []Sink{g.sink, added} })
		pass(time.Minute)
		if all := added.versions(); len(all) != 1 || all[0].Value.Reveal() != "other account-1" {
			t.Errorf("the new sink held %d values, the first of version %d", len(all), all[0].N)
		}
		if s := g.status(t); !s.Sinks[0].Current || !s.Sinks[1].Current {
			t.Errorf("sinks %+v", s.Sinks)
		}
	})
}

func TestTheLogSaysThatAVersionIsOfANewSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		g := newRig(12 * time.Hour)
		g.run(t, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
		pass(time.Minute)
		key := newCloud(13 * time.Hour)
		key.n = 1 // it goes on from the old one's values
		g.swap(t, func(s *Spec) { s.Source = key })
		g.stop()
		if log := out.String(); !strings.Contains(log, `version=2 expires_in=13h0m0s verdict=accepted reason="its source or probe is new"`) {
			t.Error(log)
		}
	})
}

func TestAChangeProbesAFewTimesAndTellsWhenTheAPIWantsToBeAskedAgain(t *testing.T) {
	t.Parallel()
	throttled := func(d time.Duration) func(Value) Finding {
		return always(Finding{Verdict: Unknown, Reason: "503", RetryAfter: d})
	}
	for name, c := range map[string]struct {
		mint    func(int) (Minted, error)
		judge   func(Value) Finding
		expired bool // the published value is about to be
		probes  int
		takes   time.Duration // at most
		after   time.Duration // the least to be waited for
		most    time.Duration
	}{
		"an API that cannot tell":                      {judge: throttled(0), probes: trialProbes, takes: trialTimeout},
		"an API that asks to be left alone":            {judge: throttled(20 * time.Minute), probes: 1, after: 20 * time.Minute, most: 30 * time.Minute},
		"one that asks for more than anybody gives":    {judge: throttled(24 * time.Hour), probes: 1, after: time.Hour, most: time.Hour},
		"one that asks for it near the value's end":    {judge: throttled(time.Hour), expired: true, probes: 1, after: retryAfterUrgent, most: retryAfterUrgent},
		"a source that asks to be left alone":          {mint: func(int) (Minted, error) { return Minted{}, &Failure{Err: errOutage, RetryAfter: 20 * time.Minute} }, after: 20 * time.Minute, most: 30 * time.Minute},
		"a source that fails and asks for no patience": {mint: outage},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.run(t, Options{})
				pass(time.Minute)
				if c.expired {
					g.cloud.set(outage, nil)
					pass(11 * time.Hour)
				}
				key, calm := newCloud(13*time.Hour), newCloud(time.Hour)
				key.set(c.mint, c.judge)
				changed, other := g.spec, Spec{Token: "other", Policy: hourly(), Source: calm, Probe: calm}
				changed.Source, changed.Probe = key, key
				begin := time.Now()
				err := g.Swap(t.Context(), []Spec{other, changed})
				if err == nil {
					t.Fatal("the change was made")
				}
				if took := time.Since(begin); took > c.takes {
					t.Errorf("that took %s", took)
				}
				if _, probes := key.counts(); probes != c.probes {
					t.Errorf("%d probes, want %d", probes, c.probes)
				}
				if after := AsFailure(err).RetryAfter; after < c.after || after > c.most {
					t.Errorf("to be tried again after %s: %v", after, err)
				}
			})
		})
	}
}
