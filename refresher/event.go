package refresher

import (
	"errors"
	"time"
)

// Event is something that happened to a token.
type Event interface {
	apply(p Policy, s *State, now time.Time)
}

// After is the state after an event at now. It is pure.
func (s State) After(p Policy, e Event, now time.Time) State {
	s.become(p, e, now)
	return s
}

// become makes s what it is after an event. Unlike After it moves no state to
// the heap: an event is an interface.
func (s *State) become(p Policy, e Event, now time.Time) {
	s.shift(now)
	e.apply(p, s, now)
}

// The events.
type (
	// Looked: time passed, nothing else happened.
	Looked struct{}
	// Started: a worker took up what was decided.
	Started struct{ Do Action }
	// MintSucceeded: the source gave a value.
	MintSucceeded struct{ Minted Minted }
	// MintFailed: it did not.
	MintFailed struct{ Failure Failure }
	// CandidateProbed: a probe of the candidate with this value ended.
	CandidateProbed struct {
		Value   Value
		Finding Finding
	}
	// PublishedProbed: a probe of this version ended.
	PublishedProbed struct {
		Version *Version
		Finding Finding
	}
	// Dropped: the candidate was given up, as decided.
	Dropped struct{ Decision Decision }
	// Published: the version is durable (or could not be made so) and the
	// sinks are about to get it.
	Published struct {
		Version *Version
		Finding Finding
		Reprobe bool // Finding is of a probe that was replaced meanwhile
	}
	// Restored: the state of an earlier run was loaded.
	Restored struct {
		Version *Version
		Finding Finding
	}
	// Requested: a person asks for a refresh now.
	Requested struct{}
	// Reported: a consumer says that this version gave it a 401.
	Reported struct {
		Lineage string
		N       uint64
	}
	// Witnessed: the API refused this version, with a 401, to a reader's
	// request that passed through us.
	Witnessed struct {
		Lineage string
		N       uint64
	}
	// Replaced: a new source or probe took the place of the old, after its
	// candidate was accepted.
	Replaced struct {
		Candidate     Candidate
		SourceChanged bool
	}
)

func (Looked) apply(Policy, *State, time.Time) {}

func (e Started) apply(p Policy, s *State, now time.Time) {
	switch e.Do {
	case Mint:
		s.Minting, s.Requested = true, false
		s.mints = s.mints.take(now, s.mintPace(p, now), mintBurst, s.Roll)
	case ProbeCandidate:
		s.ProbingCandidate = true
		s.probes = s.probes.take(now, s.probePace(p, now), probeBurst, s.Roll)
	case ProbePublished:
		s.ProbingPublished = true
		// Reports have limits of their own, and so has the first confirmation.
		if !s.Reported && !s.heeding && !s.confirmsAtOnce() {
			s.probes = s.probes.take(now, s.probePace(p, now), probeBurst, s.Roll)
		}
		s.untried, s.heeding = false, s.Reported
		if s.Reported {
			s.Reported, s.ReportedAt = false, now
		}
	case Publish:
		s.Saving = true
	}
}

func (e MintSucceeded) apply(_ Policy, s *State, now time.Time) {
	s.Minting = false
	s.mintAsked = asked{}
	s.MintedAt, s.phase = now, s.Roll
	if s.Held != nil && s.Held.Value == e.Minted.Value {
		return // it is held already, since earlier and perhaps under a number
	}
	c := &Candidate{Minted: e.Minted, HeldSince: now}
	if h := s.Held; h != nil && (h.Finding.Verdict == Unknown || h.Finding.Verdict == Unproven) {
		c.first = h.unprovenSince()
	}
	s.Held = c
	s.ProbeFailures, s.ProbeNotBefore = 0, time.Time{} // a new value is tried at once
}

func (e MintFailed) apply(p Policy, s *State, now time.Time) {
	s.Minting = false
	s.failed(p, now, e.Failure)
}

func (e CandidateProbed) apply(p Policy, s *State, now time.Time) {
	s.ProbingCandidate = false
	if s.Held == nil || s.Held.Value != e.Value {
		return // replaced meanwhile
	}
	held := *s.Held
	held.Finding = e.Finding
	s.Held = &held
	switch e.Finding.Verdict {
	case RejectedToken:
		s.Refused = e.Value
	case Accepted:
		if s.Refused == e.Value {
			s.Refused = Value{}
		}
	}
	s.probed(p, e.Finding, now)
}

func (e PublishedProbed) apply(p Policy, s *State, now time.Time) {
	s.ProbingPublished = false
	if s.Published != e.Version {
		return // replaced meanwhile
	}
	s.ProbedAt = now
	s.probed(p, e.Finding, now)
	if s.outrun && e.Finding.Verdict != RejectedToken {
		s.outrun, s.ProbeFailures, s.ProbeNotBefore = false, 0, time.Time{}
		return
	}
	switch e.Finding.Verdict {
	case Accepted:
		s.Proof, s.VerifiedAt = e.Finding, now
	case RejectedAccess:
		s.Proof = e.Finding
	case RejectedToken:
		s.DoubtSince = time.Time{}
		switch {
		case s.Proof.Verdict == RejectedToken: // known
		case s.SuspectSince.IsZero():
			s.SuspectSince = now
			return
		default:
			// Confirmed. The refresh starts now: earlier failures were about
			// something else.
			s.Proof = e.Finding
			s.Refused = s.Published.Value
			s.NotBefore = s.mints.ready(mintBurst)
			if s.Witnessed {
				s.NotBefore = now
			}
			s.probes = s.probes.spare(now, probeBurst) // for what replaces it
			s.Witnessed, s.outrun = false, false
		}
	default:
		if s.DoubtSince.IsZero() {
			s.DoubtSince = now
		}
		return
	}
	s.Unchecked, s.DoubtSince, s.SuspectSince, s.Witnessed = false, time.Time{}, time.Time{}, false
}

// probed notes what any probe says of the API: when to try again.
func (s *State) probed(p Policy, f Finding, now time.Time) {
	s.probeAsked = askedFor(f.RetryAfter, now, s.Roll)
	if f.Throttled {
		s.Throttle++
	} else {
		s.Throttle = 0
	}
	if f.Verdict != Unknown {
		s.ProbeFailures, s.ProbeNotBefore = 0, time.Time{}
		return
	}
	s.ProbeFailures++
	s.ProbeNotBefore = now.Add(backoff(s.ProbeFailures, s.patience(p, now), s.Roll))
}

func (e Dropped) apply(p Policy, s *State, now time.Time) {
	s.Held = nil
	d := e.Decision
	if !d.Failed || d.Code == codeSameValue { // else the published value is not this source's
		s.SourceChanged = false
	}
	if !d.Failed {
		s.recovered()
		return
	}
	s.failed(p, now, Failure{Err: errors.New(d.Reason)})
	if (d.Code == codeSameValue || d.Code == codeNotLonger) && s.usable(now) {
		// Asking again for what is not there yet: a tenth of what is left.
		left := s.Published.ExpiresAt.Sub(now)
		s.NotBefore = now.Add(min(max(left/10, s.urgentMin()), sameValueMax))
		s.NotBefore = later(s.NotBefore, s.mints.ready(mintBurst))
	}
}

func (e Published) apply(p Policy, s *State, now time.Time) {
	s.Saving = false
	v := e.Version
	if s.Held != nil && s.Held.Value == v.Value {
		s.Held = nil
	}
	s.Lineage, s.N = v.Lineage, v.N
	if e.Reprobe && !p.Probed {
		e.Finding = Finding{} // as in Replaced
	}
	s.Published, s.Proof = v, e.Finding
	s.ProbedAt, s.VerifiedAt, s.DoubtSince, s.SuspectSince = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	s.Unchecked = e.Reprobe && p.Probed
	s.Reported, s.Witnessed, s.outrun = false, false, false
	if s.Held == nil { // else a new source's candidate is waiting already
		s.SourceChanged = false
	}
	switch e.Finding.Verdict {
	case Accepted:
		s.ProbedAt, s.VerifiedAt = now, now
	case Unknown:
		s.DoubtSince = now
	default:
		s.ProbedAt = now
	}
	s.recovered()
}

func (e Restored) apply(p Policy, s *State, now time.Time) {
	v := e.Version
	s.Lineage, s.N = v.Lineage, v.N
	switch {
	case v.ExpiredAt(now), e.Finding.Verdict == RejectedToken:
		return // nothing but the number is worth keeping
	case e.Finding.Verdict == Accepted, e.Finding.Verdict == Unproven && !p.Probed:
		s.Published, s.Proof = v, e.Finding
		s.Unchecked = p.Probed
		s.MintedAt = v.MintedAt
		s.ProbedAt = v.PublishedAt
	default:
		s.Held = &Candidate{
			Minted:    Minted{Value: v.Value, Type: v.Type, ExpiresAt: v.ExpiresAt},
			HeldSince: v.MintedAt, Restored: v,
		}
	}
	if s.MintedAt.After(now) {
		s.MintedAt = now
	}
}

func (Requested) apply(_ Policy, s *State, _ time.Time) {
	s.Requested = !s.Minting // one that is under way will do
}

func (e Reported) apply(p Policy, s *State, _ time.Time) {
	if p.Probed && s.Published != nil && s.Lineage == e.Lineage && s.N == e.N {
		s.Reported = true
	}
}

// apply makes the 401 the first of two: the probe that asks for the second is
// due at once, and not some seconds later, for it was seen on another
// connection and for another method. An API that refuses what its probe then
// accepts could have us probe without end: past witnessBurst it is a report.
func (e Witnessed) apply(p Policy, s *State, now time.Time) {
	switch {
	case !p.Probed || s.Published == nil || s.Lineage != e.Lineage || s.N != e.N:
		return
	case s.Witnessed || s.Proof.Verdict == RejectedToken:
		return // known
	case s.witnesses.ready(witnessBurst).After(now):
		s.Reported = true
		return
	}
	s.witnesses = s.witnesses.take(now, s.mintPace(p, now), witnessBurst, s.Roll)
	s.Witnessed, s.untried, s.outrun = true, true, s.ProbingPublished
	if s.SuspectSince.IsZero() {
		s.SuspectSince = now
	}
	s.ProbeFailures, s.ProbeNotBefore = 0, time.Time{} // it has just answered
}

func (e Replaced) apply(p Policy, s *State, now time.Time) {
	// What workers are doing for the old source or probe no longer counts.
	s.Minting, s.ProbingCandidate, s.ProbingPublished, s.outrun = false, false, false, false
	// The published value was proven to another probe, perhaps; so was what
	// spoke against it.
	s.Unchecked = p.Probed && s.Published != nil
	s.Reported, s.Witnessed, s.SuspectSince, s.DoubtSince = false, false, time.Time{}, time.Time{}
	if !p.Probed {
		s.Proof = Finding{} // there is nobody any more who could say otherwise
	}
	c := e.Candidate
	c.HeldSince = now
	s.Held = &c
	s.MintedAt, s.phase = now, s.Roll
	s.SourceChanged = s.SourceChanged || e.SourceChanged
	s.recovered()
	s.ProbeFailures, s.ProbeNotBefore, s.Throttle, s.probeAsked, s.mintAsked = 0, time.Time{}, 0, asked{}, asked{}
	s.Refused = Value{}
}
