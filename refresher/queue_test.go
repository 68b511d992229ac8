package refresher

import (
	"fmt"
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
				g := newRig(12 * time.Hour)
				specs := make([]Spec, 1000)
				for i := range specs {
					specs[i] = g.spec
					specs[i].Token, specs[i].Sinks = fmt.Sprint("bot", i), nil
				}
				g.spec = specs[0]
				cloud := newCloud(12 * time.Hour)
				cloud.identity = "late account"
				last := &specs[len(specs)-1]
				last.Token, last.Source, last.Probe = "late", cloud, cloud
				opt := Options{ProbesPerSecond: DefaultProbesPerSecond, Store: &memoryStore{}}
				g.run(t, opt, specs[1:]...)
				pass(15*time.Minute - time.Second) // all are probed by now, and again at the quarter
				if c.restart {
					g.stop()
					g.run(t, opt, specs[1:]...)
				}
				_, before := cloud.counts()
				s, _ := g.Snapshot("late")
				v := s.Version
				cloud.set(nil, func(x Value) Finding {
					if x == v.Value {
						return Finding{Verdict: RejectedToken, Reason: "401"}
					}
					return Finding{Verdict: Accepted}
				})
				pass(3 * time.Second)
				if _, now := cloud.counts(); now != before {
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
