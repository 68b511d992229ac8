package refresher

import (
	"strings"
	"testing"
	"time"
)

// The tests below are about a value that was minted at noon and ends at
// midnight, under the default policy.
var (
	noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	midnight = noon.Add(12 * time.Hour)
)

func clockTime(s string) time.Time {
	t, err := time.Parse("15:04:05", s)
	if err != nil {
		panic(err)
	}
	return time.Date(2026, 3, 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

func current() *Version {
	return &Version{Token: "bot", Lineage: "l", N: 7, Value: NewValue("current"), Type: TypeIAM, MintedAt: noon, ExpiresAt: midnight, PublishedAt: noon}
}

// steady is a published and accepted value, nothing going on.
func steady(now time.Time) State {
	return State{
		Lineage: "l", N: 7, Published: current(), Proof: Finding{Verdict: Accepted}, VerifiedAt: noon,
		MintedAt: noon, ProbedAt: now, at: now,
	}
}

func candidate(since time.Time, f Finding) *Candidate {
	return &Candidate{Minted: Minted{Value: NewValue("new"), Type: TypeIAM, ExpiresAt: since.Add(12 * time.Hour)}, HeldSince: since, Finding: f}
}

func TestDecisionsFollowTheTableOfWhatIsPublished(t *testing.T) {
	t.Parallel()
	accepted, badToken, noAccess, unknown := Finding{Verdict: Accepted}, Finding{Verdict: RejectedToken, Reason: "401"}, Finding{Verdict: RejectedAccess, Reason: "403"}, Finding{Verdict: Unknown, Reason: "timeout"}
	tests := []struct {
		name   string
		now    string
		policy func(*Policy)
		state  func(s *State, now time.Time)
		do     Action
		code   string
		until  string // of a Wait
		failed bool
	}{
		{name: "a cold start mints", now: "12:00:00", state: func(s *State, _ time.Time) { *s = State{} }, do: Mint, code: codeFirst},
		{name: "a fresh value waits for its re-probe and refresh", now: "12:00:10", do: Wait, code: codeSchedule, until: "12:15:00"},
		{name: "the schedule mints", now: "13:00:00", do: Mint, code: codeSchedule},
		{
			name: "the jitter delays the schedule by the chance drawn at the mint", now: "13:00:00",
			policy: func(p *Policy) { p.Jitter = 10 * time.Minute }, state: func(s *State, _ time.Time) { s.phase = 0.5 },
			do: Wait, code: codeSchedule, until: "13:05:00",
		},
		{
			name: "before_expiry mints whatever the schedule says", now: "20:00:00",
			policy: func(p *Policy) { p.Refresh = every(24 * time.Hour) }, do: Mint, code: codeBeforeExpiry,
		},
		{
			name: "and not sooner", now: "19:59:00",
			policy: func(p *Policy) { p.Refresh, p.Reprobe = every(24*time.Hour), every(24*time.Hour) }, do: Wait, code: codeBeforeExpiry, until: "20:00:00",
		},
		{
			name: "a configured before_expiry is at most half of the lifetime", now: "17:59:59",
			policy: func(p *Policy) {
				p.Refresh, p.Reprobe, p.BeforeExpiry = every(24*time.Hour), every(24*time.Hour), 10*time.Hour
			}, do: Wait, code: codeBeforeExpiry, until: "18:00:00",
		},
		{
			name: "an unknown end has no deadline", now: "12:30:00",
			state: func(s *State, _ time.Time) { s.Published.ExpiresAt = time.Time{} }, do: Wait, code: codeSchedule, until: "12:45:00",
		},
		{
			name: "the published value is probed again on schedule", now: "12:30:00",
			state: func(s *State, _ time.Time) { s.ProbedAt = clockTime("12:14:00") }, do: ProbePublished, code: codeReprobe,
		},
		{
			name: "throttling doubles the interval", now: "12:30:00",
			state: func(s *State, _ time.Time) { s.ProbedAt, s.Throttle = clockTime("12:15:00"), 1 }, do: Wait, code: codeSchedule, until: "12:45:00",
		},
		{
			name: "a restored value is probed at once", now: "12:30:00",
			state: func(s *State, _ time.Time) { s.Unchecked = true }, do: ProbePublished, code: codeReprobe,
		},
		{
			name: "a new value is probed", now: "12:30:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, Finding{}) }, do: ProbeCandidate, code: codeCandidate,
		},
		{
			name: "without a probe it is published unproven", now: "12:30:00", policy: func(p *Policy) { p.Probed = false },
			state: func(s *State, now time.Time) { s.Held = candidate(now, Finding{}) }, do: Publish, code: codeUnproven,
		},
		{
			name: "accepted: published", now: "12:30:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, accepted) }, do: Publish, code: codeAccepted,
		},
		{
			name: "accepted, but the same value: nothing new", now: "12:30:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, accepted); s.Held.Value = s.Published.Value }, do: Drop, code: codeSameValue,
		},
		{
			name: "the same value inside before_expiry is a failed attempt", now: "21:00:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, Finding{}); s.Held.Value = s.Published.Value }, do: Drop, code: codeSameValue, failed: true,
		},
		{
			name: "accepted, but it ends sooner: dropped", now: "12:30:00",
			state: func(s *State, now time.Time) {
				s.Held = candidate(now, accepted)
				s.Held.ExpiresAt = midnight.Add(-time.Second)
			}, do: Drop, code: codeNotLonger,
		},
		{
			name: "it may end sooner when its source is another one", now: "12:30:00",
			state: func(s *State, now time.Time) {
				s.Held, s.SourceChanged = candidate(now, accepted), true
				s.Held.ExpiresAt = midnight.Add(-time.Second)
			}, do: Publish, code: codeAccepted,
		},
		{
			name: "it may end sooner when the current one was revoked", now: "12:30:00",
			state: func(s *State, now time.Time) {
				s.Held, s.Proof = candidate(now, accepted), badToken
				s.Held.ExpiresAt = midnight.Add(-time.Second)
			}, do: Publish, code: codeAccepted,
		},
		{
			name: "rejected token: dropped", now: "12:30:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, badToken) }, do: Drop, code: codeRejected, failed: true,
		},
		{
			name: "rejected access: never at a cold start", now: "12:30:00",
			state: func(s *State, now time.Time) { *s = State{Held: candidate(now, noAccess)} }, do: Drop, code: codeRejected, failed: true,
		},
		{
			name: "rejected access: never over an accepted value", now: "21:00:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, noAccess) }, do: Drop, code: codeRejected, failed: true,
		},
		{
			name: "rejected access over the same: the published one is asked first", now: "21:00:00",
			state: func(s *State, now time.Time) {
				s.Held, s.Proof, s.ProbedAt = candidate(now, noAccess), noAccess, now.Add(-time.Minute)
			}, do: ProbePublished, code: codeSameAccess,
		},
		{
			name: "rejected access over the same near its end: published", now: "21:00:00",
			state: func(s *State, now time.Time) {
				s.Held, s.Proof, s.ProbedAt = candidate(now.Add(-time.Second), noAccess), noAccess, now
			}, do: Publish, code: codeSameAccess,
		},
		{
			name: "rejected access over the same with time left: dropped", now: "13:30:00",
			state: func(s *State, now time.Time) {
				s.Held, s.Proof, s.ProbedAt = candidate(now.Add(-time.Second), noAccess), noAccess, now
			}, do: Drop, code: codeRejected, failed: true,
		},
		{
			name: "rejected access over the same: not with probe.required", now: "21:00:00", policy: func(p *Policy) { p.ProbeRequired = true },
			state: func(s *State, now time.Time) {
				s.Held, s.Proof, s.ProbedAt = candidate(now.Add(-time.Second), noAccess), noAccess, now
			}, do: Drop, code: codeRejected, failed: true,
		},
		{
			name: "unknown: held while the current value has time", now: "12:40:00",
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore = candidate(now.Add(-5*time.Minute), unknown), now.Add(4*time.Minute)
			}, do: Wait, code: codeCandidate, until: "12:44:00",
		},
		{
			name: "unknown: probed again with backoff", now: "12:40:00",
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore = candidate(now.Add(-5*time.Minute), unknown), now
			}, do: ProbeCandidate, code: codeCandidate,
		},
		{
			name: "unknown inside before_expiry: not before the grace is over", now: "21:00:29",
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore, s.MintedAt = candidate(clockTime("21:00:00"), unknown), now.Add(time.Minute), now
			}, do: Wait, code: codeUnverified, until: "21:00:30",
		},
		{
			name: "unknown inside before_expiry: published unverified after the grace", now: "21:00:30",
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore = candidate(clockTime("21:00:00"), unknown), now.Add(time.Minute)
			}, do: Publish, code: codeUnverified,
		},
		{
			name: "unknown near the end: a quarter of what is left is grace enough", now: "23:59:44",
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore = candidate(clockTime("23:59:40"), unknown), now.Add(time.Minute)
			}, do: Publish, code: codeUnverified,
		},
		{
			name: "unknown with nothing published: after the grace", now: "12:00:30",
			state: func(s *State, now time.Time) {
				*s = State{Held: candidate(noon, unknown), MintedAt: noon, ProbeNotBefore: now.Add(time.Minute)}
			}, do: Publish, code: codeUnverified,
		},
		{
			name: "unknown with probe.required: never", now: "23:59:59", policy: func(p *Policy) { p.ProbeRequired = true },
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore, s.MintedAt = candidate(clockTime("21:00:00"), unknown), now, now
			}, do: ProbeCandidate, code: codeCandidate,
		},
		{
			name: "unknown: scheduled mints go on", now: "14:00:00",
			state: func(s *State, now time.Time) {
				s.Held, s.ProbeNotBefore, s.MintedAt = candidate(clockTime("13:00:00"), unknown), now.Add(time.Minute), clockTime("13:00:00")
			}, do: Mint, code: codeSchedule,
		},
		{
			name: "a candidate that expired while it was held is dropped", now: "12:40:00",
			state: func(s *State, now time.Time) { s.Held = candidate(now, unknown); s.Held.ExpiresAt = now }, do: Drop, code: codeExpired, failed: true,
		},
		{
			name: "one 401 is confirmed after 5 s", now: "12:30:04",
			state: func(s *State, _ time.Time) { s.SuspectSince = clockTime("12:30:00") }, do: Wait, code: codeConfirm, until: "12:30:05",
		},
		{
			name: "a re-probe that is due does not stand for the confirmation", now: "12:30:04",
			state: func(s *State, _ time.Time) {
				s.SuspectSince, s.ProbedAt = clockTime("12:30:00"), clockTime("12:10:00")
			}, do: Wait, code: codeConfirm, until: "12:30:05",
		},
		{name: "a confirmed 401 mints now", now: "12:30:05", state: func(s *State, _ time.Time) { s.Proof = badToken }, do: Mint, code: codeRevoked},
		{
			name: "the revoked value again is a failed attempt", now: "12:30:05",
			state: func(s *State, now time.Time) {
				s.Proof, s.Held = badToken, candidate(now, Finding{})
				s.Held.Value = s.Published.Value
			}, do: Drop, code: codeSameValue, failed: true,
		},
		{name: "no access makes no extra mint", now: "12:30:05", state: func(s *State, _ time.Time) { s.Proof = noAccess }, do: Wait, code: codeSchedule, until: "12:45:00"},
		{name: "an unknown re-probe makes nothing", now: "12:30:05", state: func(s *State, now time.Time) { s.DoubtSince = now }, do: Wait, code: codeSchedule, until: "12:45:00"},
		{name: "a reader's 401 is looked into at once", now: "12:30:05", state: func(s *State, _ time.Time) { s.Reported = true }, do: ProbePublished, code: codeReported},
		{
			name: "but at most every 10 s", now: "12:30:05",
			state: func(s *State, now time.Time) { s.Reported, s.ReportedAt = true, now.Add(-time.Second) }, do: Wait, code: codeReported, until: "12:30:14",
		},
		{
			name: "a 401 that we saw ourselves is confirmed at once", now: "12:30:00",
			state: func(s *State, now time.Time) {
				*s = s.After(hourly(), Witnessed{Lineage: "l", N: 7}, now)
			}, do: ProbePublished, code: codeConfirm,
		},
		{
			name: "whatever reports, probes and their backoff there were", now: "12:30:00",
			state: func(s *State, now time.Time) {
				s.ReportedAt, s.ProbeFailures, s.ProbeNotBefore = now.Add(-time.Second), 5, now.Add(time.Minute)
				for range probeBurst {
					s.probes = s.probes.take(now, probeInterval, probeBurst, 0)
				}
				*s = s.After(hourly(), Witnessed{Lineage: "l", N: 7}, now)
			}, do: ProbePublished, code: codeConfirm,
		},
		{
			name: "but for what the API wants to be left alone", now: "12:30:00",
			state: func(s *State, now time.Time) {
				s.probeAsked = askedFor(time.Minute, now, 0)
				*s = s.After(hourly(), Witnessed{Lineage: "l", N: 7}, now)
			}, do: Wait, code: codeConfirm, until: "12:31:00",
		},
		{
			name: "and sooner than for the 401 of a probe", now: "12:30:04",
			state: func(s *State, now time.Time) {
				s.SuspectSince = clockTime("12:30:03")
				*s = s.After(hourly(), Witnessed{Lineage: "l", N: 7}, now)
			}, do: ProbePublished, code: codeConfirm,
		},
		{
			name: "one about an older version is not news", now: "12:30:00",
			state: func(s *State, now time.Time) {
				*s = s.After(hourly(), Witnessed{Lineage: "l", N: 6}, now)
			}, do: Wait, code: codeSchedule, until: "12:45:00",
		},
		{
			name: "after a failure the backoff holds", now: "13:00:00",
			state: func(s *State, now time.Time) {
				s.Failures, s.NotBefore, s.LastFailure = 1, now.Add(time.Minute), "boom"
			}, do: Wait, code: codeRetry, until: "13:01:00",
		},
		{
			name: "Retry-After holds even past the backoff", now: "13:00:00",
			state: func(s *State, now time.Time) {
				s.Failures, s.NotBefore, s.mintAsked = 1, now, askedFor(10*time.Minute, now, 0)
			}, do: Wait, code: codeRetry, until: "13:10:00",
		},
		{
			name: "Retry-After is obeyed for 5 min at most inside before_expiry", now: "21:00:00",
			state: func(s *State, now time.Time) {
				s.Failures, s.NotBefore, s.mintAsked = 1, now, askedFor(50*time.Minute, now, 0)
			}, do: Wait, code: codeRetry, until: "21:05:00",
		},
		{
			name: "a person's request goes before the backoff", now: "13:00:00",
			state: func(s *State, now time.Time) { s.Failures, s.NotBefore, s.Requested = 3, now.Add(time.Hour), true }, do: Mint, code: codeRequested,
		},
		{
			name: "nothing is begun twice", now: "13:00:00",
			state: func(s *State, now time.Time) { s.Minting, s.ProbedAt = true, now }, do: Wait, code: codeReprobe, until: "13:15:00",
		},
		{
			name: "nothing is decided about a candidate that is being saved", now: "12:59:00",
			state: func(s *State, now time.Time) { s.Saving, s.Held = true, candidate(now, accepted) }, do: Wait, code: codeExpired, until: "23:59:59",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := clockTime(tt.now)
			p := hourly()
			if tt.policy != nil {
				tt.policy(&p)
			}
			s := steady(now)
			if tt.state != nil {
				tt.state(&s, now)
			}
			d := Decide(p, s, now)
			if d.Do != tt.do || d.Code != tt.code || d.Failed != tt.failed {
				t.Errorf("decided %s (%s, failed %t): %s; want %s (%s, failed %t)", d.Do, d.Code, d.Failed, d.Reason, tt.do, tt.code, tt.failed)
			}
			if d.Reason == "" || strings.Contains(d.Reason, "%!") {
				t.Errorf("reason %q", d.Reason)
			}
			if want := tt.until; want != "" {
				at := clockTime(want)
				if want == "23:59:59" { // the end of the value
					at = midnight
				}
				if !d.Until.Equal(at) {
					t.Errorf("until %s, want %s", d.Until.Format(time.TimeOnly), want)
				}
			}
		})
	}
}

func TestA401ThatWeSawNeedsOneProbeToBeBelieved(t *testing.T) {
	t.Parallel()
	now := clockTime("12:30:00")
	p := hourly()
	badToken, accepted, unknown := Finding{Verdict: RejectedToken}, Finding{Verdict: Accepted}, Finding{Verdict: Unknown, Reason: "timeout"}
	witnessed := func(s State) State { return s.After(p, Witnessed{Lineage: "l", N: 7}, now) }
	probed := func(s State, f Finding) State {
		return s.After(p, PublishedProbed{Version: s.Published, Finding: f}, now)
	}
	started := func(s State) State { return s.After(p, Started{Do: ProbePublished}, now) }

	for name, c := range map[string]struct {
		after  func() State
		do     Action
		code   string
		health Health
	}{
		"confirmed: a new value now, whatever was minted before": {func() State {
			s := steady(now)
			for range mintBurst + 1 {
				s = s.After(p, Started{Do: Mint}, now)
			}
			s.Minting = false
			return probed(started(witnessed(s)), badToken)
		}, Mint, codeRevoked, Revoked},
		"contradicted: nothing was amiss": {func() State { return probed(started(witnessed(steady(now))), accepted) }, Wait, codeSchedule, Fresh},
		"the probe began before and says nothing against it": {func() State {
			return probed(witnessed(started(steady(now))), accepted)
		}, ProbePublished, codeConfirm, Fresh},
		"the probe began before and says the same": {func() State { return probed(witnessed(started(steady(now))), badToken) }, Mint, codeRevoked, Revoked},
		"the probe cannot tell: it is made again": {func() State {
			s := started(witnessed(steady(now)))
			s.Roll = 0.5
			return probed(s, unknown)
		}, Wait, codeConfirm, Fresh},
		"the probe cannot tell, and a new value may be probed at once: it waits all the same": {func() State {
			s := started(witnessed(steady(now)))
			s.Roll = 0.5
			s = probed(s, unknown).After(p, MintSucceeded{Minted{Value: NewValue("next"), ExpiresAt: now.Add(12 * time.Hour)}}, now)
			for range probeBurst {
				s = s.After(p, Started{Do: ProbeCandidate}, now)
			}
			return s
		}, Wait, codeCandidate, Fresh},
		"no probe of a new value could tell: it is made at once": {func() State {
			s := steady(now).After(p, MintSucceeded{Minted{Value: NewValue("next"), ExpiresAt: now.Add(12 * time.Hour)}}, now)
			s = witnessed(s.After(p, Started{Do: ProbeCandidate}, now))
			s.Roll = 0.5
			return s.After(p, CandidateProbed{Value: NewValue("next"), Finding: unknown}, now)
		}, ProbePublished, codeConfirm, Fresh},
		"seen again while it is looked into": {func() State { return witnessed(started(witnessed(steady(now)))) }, Wait, codeSchedule, Fresh},
		"seen again once that is known":      {func() State { return witnessed(probed(started(witnessed(steady(now))), badToken)) }, Mint, codeRevoked, Revoked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.after()
			if d := Decide(p, s, now); d.Do != c.do || d.Code != c.code {
				t.Errorf("decided %s (%s): %s; want %s (%s)", d.Do, d.Code, d.Reason, c.do, c.code)
			}
			if got := s.Health(now); got != c.health {
				t.Errorf("health %s, want %s", got, c.health)
			}
		})
	}
}

func TestAnAPIThatContradictsItselfIsNotProbedWithoutEnd(t *testing.T) {
	t.Parallel()
	now := clockTime("12:30:00")
	p, s := hourly(), steady(now)
	probes := 0
	for range 1000 { // in 100 s
		s = s.After(p, Witnessed{Lineage: "l", N: 7}, now)
		if Decide(p, s, now).Do == ProbePublished {
			probes++
			s = s.After(p, Started{Do: ProbePublished}, now)
			s = s.After(p, PublishedProbed{Version: s.Published, Finding: Finding{Verdict: Accepted}}, now)
		}
		now = now.Add(100 * time.Millisecond)
	}
	if most := witnessBurst + int(100*time.Second/reportEvery); probes < witnessBurst || probes > most {
		t.Errorf("%d probes in 100 s, want %d to %d", probes, witnessBurst, most)
	}
}

func TestAStateMovesWithAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	s := steady(clockTime("13:00:00"))
	s.NotBefore, s.Failures = clockTime("13:05:00"), 1
	back := s.After(hourly(), Looked{}, clockTime("12:30:00"))
	if !back.NotBefore.Equal(clockTime("12:35:00")) || !back.Published.ExpiresAt.Equal(midnight) {
		t.Errorf("not before %s, expires %s", back.NotBefore, back.Published.ExpiresAt)
	}
	if !s.NotBefore.Equal(clockTime("13:05:00")) {
		t.Error("After changed the state it was given")
	}
}

func TestTheSameValueNearItsEndIsAskedForAgainAfterATenthOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	now := clockTime("23:00:00")
	s := steady(now)
	s.Held = candidate(now, Finding{})
	s.Held.Value = s.Published.Value
	p := hourly()
	s = s.After(p, Dropped{Decision: Decide(p, s, now)}, now)
	if want := now.Add(6 * time.Minute); !s.NotBefore.Equal(want) || s.Failures != 1 {
		t.Errorf("not before %s after %d failures, want %s", s.NotBefore.Format(time.TimeOnly), s.Failures, want.Format(time.TimeOnly))
	}
}

func TestAFailureWaitsNoLongerThanTheDeadline(t *testing.T) {
	t.Parallel()
	now := clockTime("19:59:00")
	s := steady(now)
	s.Failures, s.Roll = 10, 0.99
	s = s.After(hourly(), MintFailed{Failure: Failure{Err: errOutage}}, now)
	if want := clockTime("20:00:00"); !s.NotBefore.Equal(want) {
		t.Errorf("the next attempt is at %s, want %s", s.NotBefore.Format(time.TimeOnly), want.Format(time.TimeOnly))
	}
}

func TestAnExpiredOrRejectedSavedValueIsNotTakenUp(t *testing.T) {
	t.Parallel()
	p := hourly()
	for name, tt := range map[string]struct {
		at        time.Time
		f         Finding
		published bool
		held      bool
	}{
		"accepted":         {noon.Add(time.Hour), Finding{Verdict: Accepted}, true, false},
		"expired":          {midnight, Finding{Verdict: Accepted}, false, false},
		"rejected: token":  {noon.Add(time.Hour), Finding{Verdict: RejectedToken}, false, false},
		"rejected: access": {noon.Add(time.Hour), Finding{Verdict: RejectedAccess}, false, true},
		"unknown":          {noon.Add(time.Hour), Finding{Verdict: Unknown}, false, true},
		"never probed":     {noon.Add(time.Hour), Finding{}, false, true},
	} {
		s := State{}.After(p, Restored{Version: current(), Finding: tt.f}, tt.at)
		if (s.Published != nil) != tt.published || (s.Held != nil) != tt.held || s.N != 7 || s.Lineage != "l" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestTheServersTimeIsTheLaterOfTwoWitnesses(t *testing.T) {
	t.Parallel()
	local := &setClock{wall: noon}
	c := &serverClock{local: local}
	at := func(want time.Time) {
		t.Helper()
		if got := c.Now(); !got.Equal(want) {
			t.Errorf("the servers' time is %s, want %s", got.Format(time.TimeOnly), want.Format(time.TimeOnly))
		}
	}
	exchange := func(date time.Time) { c.observe(date, c.moment(), c.moment()) }

	at(noon)
	exchange(noon.Add(7 * time.Minute)) // we are 7 min behind
	if c.Skew() != 7*time.Minute {
		t.Errorf("skew %s", c.Skew())
	}
	at(noon.Add(7 * time.Minute))
	local.wall = noon.Add(-2 * time.Hour) // set back
	local.elapsed += time.Minute
	at(noon.Add(8 * time.Minute))
	local.wall = noon.Add(3 * time.Hour) // a paused machine, set right: it is 7 min behind no more
	at(noon.Add(3 * time.Hour))
	exchange(noon.Add(3*time.Hour + 10*time.Second)) // 10 s are tolerated
	at(noon.Add(3 * time.Hour))
	before := c.moment()
	local.wall = local.wall.Add(2 * time.Hour) // a suspend during the exchange
	local.elapsed += 2 * time.Hour
	c.observe(noon.Add(3*time.Hour), before, c.moment())
	at(noon.Add(5 * time.Hour))
	exchange(noon.Add(4 * time.Hour)) // we are an hour ahead; it may be the end of that second
	at(noon.Add(4*time.Hour + time.Second))
	local.wall = local.wall.Add(6 * time.Minute) // and still are, by an hour or by more
	at(noon.Add(4*time.Hour + 6*time.Minute + time.Second))
	local.wall = noon.Add(4 * time.Hour) // set right
	at(noon.Add(4*time.Hour + time.Second))
}

type setClock struct {
	wall    time.Time
	elapsed time.Duration
}

func (c *setClock) Now() time.Time           { return c.wall }
func (c *setClock) Elapsed() time.Duration   { return c.elapsed }
func (c *setClock) NewAlarm() (Alarm, error) { panic("no alarm") }

func TestWithoutAProbeNothingIsEverProbed(t *testing.T) {
	t.Parallel()
	now := clockTime("12:30:00")
	p := hourly()
	p.Probed, p.Reprobe = false, nil
	s := steady(now)
	s.Reported, s.Witnessed, s.SuspectSince, s.Unchecked = true, true, now, true
	for range 2 {
		if d := Decide(p, s, now); d.Do != Wait || d.Code != codeSchedule {
			t.Errorf("decided %s (%s): %s", d.Do, d.Code, d.Reason)
		}
		s.SuspectSince = time.Time{}
	}
}
