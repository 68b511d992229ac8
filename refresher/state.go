package refresher

import "time"

// State is all that is known of one token. It is a value: [State.After] makes
// a new one and changes nothing. All times are wall time as the servers see it.
type State struct {
	// Lineage and N name the newest version ever published.
	Lineage string
	N       uint64

	// Published is the current version; nil before the first.
	Published *Version
	// Proof is the last finding about Published that told something: Unproven
	// when it never was probed, Unknown when it was published unverified.
	Proof Finding
	// VerifiedAt is when Published was last accepted.
	VerifiedAt time.Time
	// DoubtSince is since when probes of Published cannot tell.
	DoubtSince time.Time
	// SuspectSince is when Published got a 401 that is not yet confirmed.
	SuspectSince time.Time
	// Witnessed: that 401 was the API's answer to a reader's request that
	// passed through us. It is one of the two that make a revocation.
	Witnessed bool
	// untried: no probe has begun since that 401 was witnessed.
	untried bool
	// outrun: the probe under way began before that 401 and says nothing
	// against it.
	outrun    bool
	witnesses budget

	// Held is the candidate; nil when there is none.
	Held *Candidate

	// Refused is the value that was last rejected as a token, a candidate or a
	// published one: given again, it is not published before it is accepted.
	Refused Value

	// MintedAt is when the source last gave a value.
	MintedAt time.Time
	// Failures counts failed attempts in a row, the first at FailingSince.
	Failures     int
	FailingSince time.Time
	LastFailure  string
	// NotBefore is when the next attempt may start.
	NotBefore time.Time
	mintAsked asked
	mints     budget

	// ProbedAt is when Published was last probed on schedule or to confirm.
	ProbedAt time.Time
	// ProbeNotBefore is when the next probe that no consumer asked for may start.
	ProbeNotBefore time.Time
	ProbeFailures  int // probes in a row that could not tell
	Throttle       int // how often a 429 doubled the interval
	probeAsked     asked
	probes         budget

	Requested  bool      // a person asks for a refresh
	Reported   bool      // a consumer reports a 401
	ReportedAt time.Time // when a report last started a probe
	heeding    bool      // the newest probe is for a report: what it says is confirmed beside the budget

	// Unchecked: Published was restored after a restart, or published by what
	// another probe had found, and not accepted since.
	Unchecked bool
	// SourceChanged: Published is another source's. The next accepted candidate
	// is published whatever its end.
	SourceChanged bool

	// Busy flags: what workers are doing.
	Minting, ProbingCandidate, ProbingPublished, Saving bool

	// Roll is a chance in [0,1) that the owner draws anew for each event;
	// phase is the one that the next scheduled refresh is delayed by.
	Roll  float64
	phase float64

	// at is when the state was made; see shift.
	at time.Time
}

// Candidate is a minted value that is not published yet.
type Candidate struct {
	Minted
	// HeldSince is when it was minted.
	HeldSince time.Time
	// first is when the first of those was minted that could not be proven and
	// that it replaced, one after the other; zero when it replaced none.
	first time.Time
	// Finding is the last one about it; Unproven before the first.
	Finding Finding
	// Restored is the version that this value already was, after a restart:
	// it is published again under its own number.
	Restored *Version
}

// unprovenSince is since when no candidate could be proven: a source that gives
// another one every minute does not begin anew with each.
func (c *Candidate) unprovenSince() time.Time { return earlier(c.first, c.HeldSince) }

func (c *Candidate) expiredAt(now time.Time) bool {
	return !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt)
}

// usable tells whether readers may be given Published at now.
func (s State) usable(now time.Time) bool {
	return s.Published != nil && s.Proof.Verdict != RejectedToken && !s.Published.ExpiredAt(now)
}

// Health is the state in one word at now.
func (s State) Health(now time.Time) Health {
	switch {
	case s.Published == nil:
		return Pending
	case s.Proof.Verdict == RejectedToken:
		return Revoked
	case s.Published.ExpiredAt(now):
		return Expired
	case s.Proof.Verdict == RejectedAccess:
		return NoAccess
	case s.Unchecked:
		return Unchecked
	case s.Proof.Verdict == Unknown:
		return Unverified
	}
	return Fresh
}

// refused are the values that were rejected as tokens and that a source may
// still have.
func (s State) refused() []Value {
	values := []Value{s.Refused}
	if s.Published != nil && s.Proof.Verdict == RejectedToken {
		values = append(values, s.Published.Value)
	}
	return values
}

// lifetime of the published value, or of the candidate; zero when unknown.
func (s State) lifetime() time.Duration {
	switch {
	case s.Published != nil && !s.Published.ExpiresAt.IsZero():
		return s.Published.ExpiresAt.Sub(s.Published.MintedAt)
	case s.Held != nil && !s.Held.ExpiresAt.IsZero():
		return s.Held.ExpiresAt.Sub(s.Held.HeldSince)
	}
	return 0
}

// shift keeps the state's own times sensible when the clock went back: what
// was then is not in the future now, and waits are as long as they were. The
// ends of values are the servers' times and stay.
func (s *State) shift(now time.Time) {
	back := s.at.Sub(now)
	s.at = now
	if back <= 0 {
		return
	}
	for _, t := range []*time.Time{
		&s.VerifiedAt, &s.DoubtSince, &s.SuspectSince, &s.MintedAt, &s.FailingSince, &s.NotBefore,
		&s.mintAsked.at, &s.mintAsked.until, &s.mints.tat, &s.ProbedAt, &s.ProbeNotBefore, &s.probeAsked.at,
		&s.probeAsked.until, &s.probes.tat, &s.ReportedAt,
		&s.witnesses.tat,
	} {
		if !t.IsZero() {
			*t = t.Add(-back)
		}
	}
	if s.Held != nil {
		held := *s.Held
		held.HeldSince = held.HeldSince.Add(-back)
		if !held.first.IsZero() {
			held.first = held.first.Add(-back)
		}
		s.Held = &held
	}
}

// failed counts a failed attempt and says when the next may start.
func (s *State) failed(p Policy, now time.Time, f Failure) {
	s.Failures++
	if s.Failures == 1 {
		s.FailingSince = now
	}
	s.LastFailure = f.Err.Error()
	n := s.Failures
	if f.Permanent {
		n += permanentClimbs
	}
	s.NotBefore = later(now.Add(backoff(n, s.patience(p, now), s.Roll)), s.mints.ready(mintBurst))
	if deadline := p.deadline(s.Published); deadline.After(now) {
		s.NotBefore = earlier(s.NotBefore, deadline) // from then on it is urgent
	}
	s.mintAsked = askedFor(f.RetryAfter, now, s.Roll)
}

// patience is the longest backoff: less for values that live for minutes, and
// near the end of one.
func (s State) patience(p Policy, now time.Time) time.Duration {
	limit := backoffMax
	if l := s.lifetime(); l > 0 {
		limit = min(limit, max(l/20, backoffFirst))
	}
	if v := s.Published; p.insideBeforeExpiry(v, now) && !v.ExpiredAt(now) {
		limit = min(limit, max(v.ExpiresAt.Sub(now)/10, s.urgentMin()))
	}
	return limit
}

// urgentMin is the shortest retry near the end of a value: 5 s, less for
// values that live for seconds.
func (s State) urgentMin() time.Duration {
	if l := s.lifetime(); l > 0 {
		return min(urgentRetryMin, l/20)
	}
	return urgentRetryMin
}

func (s State) mintPace(p Policy, now time.Time) time.Duration {
	return paceOf(mintInterval, s.lifetime(), mintShare, p.Refresh, now)
}

func (s State) probePace(p Policy, now time.Time) time.Duration {
	return paceOf(probeInterval, s.lifetime(), probeShare, p.Reprobe, now)
}

// recovered ends a row of failures.
func (s *State) recovered() {
	s.Failures, s.LastFailure = 0, ""
	s.FailingSince, s.NotBefore = time.Time{}, time.Time{}
}
