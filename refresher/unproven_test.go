package refresher

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fileCloud is a source that does not know when its values end, as a file with a
// raw token, and an API that may be down.
type fileCloud struct {
	*rig
	content string
	down    bool
	refused []string
}

func newFileCloud() *fileCloud {
	c := &fileCloud{rig: newRig(12 * time.Hour), content: "good"}
	c.cloud.set(func(int) (Minted, error) {
		return Minted{Value: NewValue(c.content), Type: TypeIAM}, nil
	}, func(v Value) Finding {
		switch {
		case c.down:
			return Finding{Verdict: Unknown, Reason: "503"}
		case slices.Contains(c.refused, v.Reveal()):
			return Finding{Verdict: RejectedToken, Reason: "401"}
		}
		return Finding{Verdict: Accepted}
	})
	return c
}

// put writes the file, of which the refresher is told.
func (c *fileCloud) put(content string) {
	c.content = content
	c.Request("bot")
	pass(time.Minute)
}

func TestAnAcceptedValueOfUnknownEndIsReplacedUnprovenOnlyWhenItMayEndSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newFileCloud()
		c.run(t, Options{})
		c.down = true
		c.put("unproven")
		if s := c.status(t); s.Version.Value != NewValue("good") || s.Health != Fresh {
			t.Errorf("a minute later: %+v", s)
		}
		pass(8*time.Hour - 2*time.Minute)
		if s := c.status(t); s.Version.Value != NewValue("good") {
			t.Errorf("eight hours later, but for a minute: %+v", s)
		}
		pass(10 * time.Minute) // four hours before the end that an IAM token has at the latest
		if s := c.status(t); s.Version.Value != NewValue("unproven") || s.Health != Unverified {
			t.Errorf("after eight hours: %+v", s)
		}
	})
}

func TestARevokedValueThatComesAgainIsNotPublishedUnproven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newFileCloud()
		c.run(t, Options{})
		old := c.status(t).Version
		c.refused = []string{"good"}
		c.Report("bot", old.Lineage, old.N)
		pass(10 * time.Second)
		c.put("new")
		if s := c.status(t); s.Version.Value != NewValue("new") || s.Health != Fresh {
			t.Fatalf("%+v", s)
		}
		c.down = true
		c.put("good") // somebody puts the old file back
		pass(9 * time.Hour)
		if s := c.status(t); s.Version.Value != NewValue("new") {
			t.Errorf("published %+v, %s", s.Version, s.Health)
		}
	})
}

// slowProbe takes its time for all values but the first.
type slowProbe struct {
	*cloud
	probes atomic.Int64
}

func (p *slowProbe) Probe(ctx context.Context, v Value) Finding {
	if p.probes.Add(1) > 1 {
		time.Sleep(9 * time.Second)
	}
	return p.cloud.Probe(ctx, v)
}

// slowStore takes its time to save.
type slowStore struct{ memoryStore }

func (s *slowStore) Save(ctx context.Context, token, fingerprint string, v Version, f Finding) error {
	time.Sleep(8 * time.Second)
	return s.memoryStore.Save(ctx, token, fingerprint, v, f)
}

func TestWhatAProbeUnderWayMayTellIsWaitedForBeforeAnythingIsPublishedUnproven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.spec.Probe = &slowProbe{cloud: g.cloud}
		g.spec.Policy.Refresh, g.spec.Policy.Grace = every(100*time.Hour), 25*time.Second
		g.run(t, Options{Store: &slowStore{}})
		pass(10 * time.Second)
		first := g.status(t).Version
		told := 0
		g.cloud.set(nil, func(v Value) Finding {
			if v == first.Value {
				return Finding{Verdict: Accepted}
			}
			if told++; told < 3 {
				return Finding{Verdict: Unknown, Reason: "503"}
			}
			return Finding{Verdict: RejectedToken, Reason: "401"}
		})
		pass(8*time.Hour + 10*time.Minute) // before_expiry begins
		if s := g.status(t); s.Version != first || s.Probes[RejectedToken] == 0 {
			t.Errorf("version %d, %s, probes %v", s.Version.N, s.Health, s.Probes)
		}
	})
}

func TestTheGraceDoesNotBeginAnewWithEachValueThatCannotBeProven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.spec.Policy.Refresh, g.spec.Policy.Grace = every(time.Minute), 10*time.Minute
		g.cloud.set(nil, always(Finding{Verdict: Unknown, Reason: "503"}))
		g.run(t, Options{})
		pass(9 * time.Minute)
		if s := g.status(t); s.Version != nil {
			t.Errorf("published before the grace was over: %+v", s)
		}
		pass(time.Minute + probeInterval) // the one that is published was tried itself
		if s := g.status(t); s.Version == nil || s.Health != Unverified {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestWhatANewValueWaitsForIsSaidAlsoWhileItIsProvenOrAskedFor(t *testing.T) {
	t.Parallel()
	p, now := hourly(), clockTime("12:30:00")
	unknown := Finding{Verdict: Unknown, Reason: "no answer from Tracker"}
	for name, c := range map[string]struct {
		s    State
		want string
	}{
		"nothing yet, and IAM is asked":                {State{Minting: true}, "a new value is asked for"},
		"nothing yet, and IAM is asked again":          {State{Minting: true, Failures: 2, LastFailure: "UNAVAILABLE"}, "attempt 2 failed: UNAVAILABLE"},
		"nothing yet, and the first value is proven":   {State{Held: candidate(now, Finding{}), ProbingCandidate: true, MintedAt: now}, "a new value is to be proven"},
		"nothing yet, and it is proven once more":      {State{Held: candidate(now, unknown), ProbingCandidate: true, MintedAt: now}, "no answer from Tracker"},
		"nothing yet, and another is asked for beside": {State{Held: candidate(now, unknown), Minting: true, MintedAt: now, ProbeNotBefore: now.Add(time.Second)}, "no answer from Tracker"},
	} {
		if d := Decide(p, c.s, now); d.Do != Wait || !strings.Contains(d.Reason, c.want) {
			t.Errorf("%s: %s (%s): %s", name, d.Do, d.Code, d.Reason)
		}
	}
	s := steady(now)
	s.Held, s.ProbingCandidate = candidate(now, unknown), true
	if d := Decide(p, s, now); d.Code != codeCandidate || !strings.Contains(d.Reason, "no answer from Tracker") {
		t.Errorf("beside a value that works: %s (%s): %s", d.Do, d.Code, d.Reason)
	}
}

func TestTheLogSaysWhenTheAPIMayBeAskedAgainAndWhatIsServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		g := newRig(12 * time.Hour)
		g.run(t, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
		said := func(want string) {
			t.Helper()
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in %s", want, out.String())
			}
			out.Reset()
		}
		g.cloud.set(nil, always(Finding{Verdict: Unknown, Reason: "429", RetryAfter: 40 * time.Minute}))
		pass(time.Second) // values of the same end are not news
		g.Request("bot")
		pass(time.Second)
		said("retry_in=50m0s") // a quarter more than was asked for: the chance is a half
		g.cloud.set(outage, always(Finding{Verdict: RejectedToken, Reason: "401"}))
		pass(2 * time.Hour)
		if s := g.status(t); s.Health != Revoked {
			t.Fatalf("%+v", s)
		}
		out.Reset()
		g.cloud.set(outage, always(Finding{Verdict: Unknown, Reason: "503"}))
		pass(time.Hour)
		if strings.Contains(out.String(), "it stays served") {
			t.Errorf("of a revoked value: %s", out.String())
		}
		said("whether the published value is still revoked")
	})
}
