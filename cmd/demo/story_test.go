package main

import (
	"strings"
	"testing"
	"time"
)

// at are facts with this version published and held.
func at(published, held uint64, failures int) facts {
	f := facts{held: held, status: tokenStatus{Version: published, Verdict: "accepted", Failures: failures}}
	f.status.Sinks = []struct {
		Current bool `json:"current"`
	}{{Current: published > 0}}
	return f
}

// scene is what happens after some time, and what the story makes of it.
type scene struct {
	after time.Duration
	facts facts
	order order
	stage stage
}

func wellBehaved() []scene {
	const tick = 100 * time.Millisecond
	return []scene{
		{tick, at(0, 0, 0), nothing, prove},
		{tick, at(0, 0, 0), nothing, prove},
		{tick, at(1, 0, 0), startReaders, prove},
		{tick, at(1, 1, 0), nothing, prove}, // is shown for a moment
		{showStart, at(1, 1, 0), nothing, renew},
		{7 * time.Second, at(2, 2, 0), nothing, renew},
		{7 * time.Second, at(3, 3, 0), nothing, renew},
		{7 * time.Second, at(4, 3, 0), nothing, renew}, // one reader lags behind
		{tick, at(4, 4, 0), nothing, outage},
		{tick, at(4, 4, 0), nothing, outage},
		{showOutage, at(4, 4, 0), startOutage, outage},
		{6 * time.Second, at(4, 4, 1), nothing, outage},
		{2 * time.Second, at(4, 4, 2), endOutage, outage},
		{2 * time.Second, at(5, 4, 0), nothing, outage},
		{tick, at(5, 5, 0), nothing, revocation},
		{2 * time.Second, at(5, 5, 0), nothing, revocation},
		{tick, at(6, 6, 0), revokeToken, revocation},
		{5 * time.Second, at(6, 6, 0), nothing, revocation},
		{tick, at(7, 6, 0), nothing, revocation},
		{tick, at(7, 7, 0), nothing, summary},
		{tick, at(7, 7, 0), nothing, summary},
		{showEnd, at(7, 7, 0), finish, summary},
		{tick, at(7, 7, 0), nothing, summary},
	}
}

func TestTheStoryTakesItsCourse(t *testing.T) {
	t.Parallel()
	s, now := &story{renewals: 3}, time.Unix(1000, 0)
	for i, c := range wellBehaved() {
		now = now.Add(c.after)
		order, err := s.next(c.facts, now)
		if err != nil || order != c.order || s.stage != c.stage {
			t.Fatalf("scene %d: order %d, stage %s, %v; want order %d, stage %s", i, order, s.stage, err, c.order, c.stage)
		}
		if s.headline() == "" {
			t.Errorf("scene %d has no headline", i)
		}
	}
	if s.revoked != 6 {
		t.Errorf("version %d was revoked, want 6", s.revoked)
	}
}

func TestWhatDoesNotComeInTimeEndsTheStory(t *testing.T) {
	t.Parallel()
	scenes := wellBehaved()
	for upTo, want := range map[int]string{
		2:  "no token was proven",
		3:  "not all readers got the first token",
		6:  "not renewed often enough",
		11: "did not try to renew",
		13: "not renewed after the outage",
		16: "not renewed on schedule",
		18: "not replaced",
	} {
		s, now := &story{renewals: 3}, time.Unix(1000, 0)
		last := scenes[upTo-1].facts
		for _, c := range scenes[:upTo] {
			now = now.Add(c.after)
			if _, err := s.next(c.facts, now); err != nil {
				t.Fatal(err)
			}
		}
		if upTo == 3 {
			last.held = 0
		}
		_, err := s.next(last, now.Add(time.Minute))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stuck after scene %d: %v, want %q", upTo, err, want)
		}
	}
}

func TestAnUnprovenOrHalfPublishedTokenIsNoBeginning(t *testing.T) {
	t.Parallel()
	unproven, partly := at(1, 0, 0), at(1, 0, 0)
	unproven.status.Verdict = "unknown"
	partly.status.Sinks[0].Current = false
	for name, f := range map[string]facts{"unproven": unproven, "not on all sinks": partly} {
		s, now := &story{renewals: 3}, time.Unix(1000, 0)
		for range 3 {
			if order, err := s.next(f, now); order != nothing || err != nil {
				t.Errorf("%s: order %d, %v", name, order, err)
			}
		}
	}
}
