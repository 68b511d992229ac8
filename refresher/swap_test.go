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
