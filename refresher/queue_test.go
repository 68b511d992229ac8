package refresher

import (
	"context"
	"testing"
	"time"
)

func TestA401IsLookedIntoBeforeOtherTokensAreProbedOnSchedule(t *testing.T) {
	t.Parallel()
	report := func(_ *testing.T, g *rig, v *Version) { g.Report("late", v.Lineage, v.N) }
	witness := func(t *testing.T, g *rig, v *Version) { g.Witness(t.Context(), "late", v.Lineage, v.N) }
	for name, c := range map[string]struct {
		refused func(t *testing.T, g *rig, v *Version)
		restart bool
	}{
		"that a reader reports":                 {report, false},
		"that we saw":                           {witness, false},
		"that a reader reports after a restart": {report, true},
		"that we saw after a restart":           {witness, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, late, specs := crowd()
				opt := Options{ProbesPerSecond: DefaultProbesPerSecond, Store: &memoryStore{}}
				g.run(t, opt, specs...)
				pass(15*time.Minute - time.Second) // all are probed by now, and again at the quarter
				if c.restart {
					g.stop()
					g.run(t, opt, specs...)
				}
				_, before := late.counts()
				v := late.refuse(t, g)
				pass(3 * time.Second)
				if _, now := late.counts(); now != before {
					t.Fatal("it did not wait for its turn")
				}
				c.refused(t, g, v)
				pass(confirmAfter + 3*time.Second)
				if s, _ := g.Snapshot("late"); s.Version.N != v.N+1 || s.Health != Fresh {
					t.Errorf("version %d is %s eight seconds later", s.Version.N, s.Health)
				}
			})
		})
	}
}

func TestA401IsMendedWhileAThousandNewValuesAreProbed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, late, specs := crowd()
		g.run(t, Options{ProbesPerSecond: DefaultProbesPerSecond}, specs...)
		pass(10 * time.Minute)
		_, before := g.cloud.counts()
		// Its own new value waits among theirs when it is heard that the old one is refused.
		for _, spec := range append(specs, g.spec) {
			go func() { _, _ = g.Refresh(t.Context(), spec.Token) }()
		}
		v := late.refuse(t, g)
		pass(3 * time.Second)
		mended := func() {
			t.Helper()
			g.Report("late", v.Lineage, v.N)
			pass(30 * time.Second) // as promised
			if s, _ := g.Snapshot("late"); s.Version.N != v.N+1 || s.Health != Fresh {
				t.Errorf("version %d is %s", s.Version.N, s.Health)
			}
		}
		mended()
		// And when there is no new value at hand.
		v = late.refuse(t, g)
		mended()
		if _, now := g.cloud.counts(); now-before > 500 {
			t.Fatalf("%d of the other new values were probed: there was no crowd", now-before)
		}
		pass(5 * time.Minute)
		for _, s := range g.Snapshots() {
			if s.Token != "late" && s.Version.N != 2 {
				t.Errorf("%s has version %d", s.Token, s.Version.N)
			}
		}
	})
}

// crowd is a thousand tokens of one host: bot0, the rig's, and of specs all
// others. The one of a source of its own, late, is the last to be probed.
func crowd() (g *rig, late lateCloud, specs []Spec) {
	g = newRig(12 * time.Hour)
	specs = g.more(1000)
	g.spec = specs[0]
	late = lateCloud{newCloud(12 * time.Hour)}
	late.identity = "late account"
	last := &specs[len(specs)-1]
	last.Token, last.Source, last.Probe = "late", late, late
	return g, late, specs[1:]
}

// lateCloud is slower than the others', so that its values are probed after theirs.
type lateCloud struct{ *cloud }

func (c lateCloud) Mint(ctx context.Context) (Minted, error) {
	time.Sleep(time.Second)
	return c.cloud.Mint(ctx)
}

// refuse makes the cloud refuse the published value, and returns it.
func (c lateCloud) refuse(t *testing.T, g *rig) *Version {
	t.Helper()
	s, ok := g.Snapshot("late")
	if !ok {
		t.Fatal("there is no such token")
	}
	c.set(nil, func(x Value) Finding {
		if x == s.Version.Value {
			return Finding{Verdict: RejectedToken, Reason: "401"}
		}
		return Finding{Verdict: Accepted}
	})
	return s.Version
}

func TestAReportIsHeededWhateverWasProbedBefore(t *testing.T) {
	t.Parallel()
	unknown, badToken := Finding{Verdict: Unknown, Reason: "503"}, Finding{Verdict: RejectedToken, Reason: "401"}
	for _, trouble := range []time.Duration{59 * time.Minute, 66 * time.Minute, 74 * time.Minute, 82 * time.Minute} {
		t.Run(trouble.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.run(t, Options{})
				pass(16 * time.Minute)
				g.cloud.set(nil, always(unknown))
				pass(trouble)
				bad := g.status(t).Version
				g.cloud.set(nil, func(v Value) Finding {
					if v == bad.Value {
						return badToken
					}
					return Finding{Verdict: Accepted}
				})
				// As in the table of promises: probed at once, confirmed 5 s later, replaced.
				for from := time.Now(); g.status(t).Version == bad; pass(time.Second) {
					if time.Since(from) > 15*time.Second {
						t.Fatalf("not replaced: %+v", g.status(t))
					}
					g.Report("bot", bad.Lineage, bad.N)
				}
			})
		})
	}
}
