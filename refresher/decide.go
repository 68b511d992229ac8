package refresher

import (
	"fmt"
	"time"
)

// Action is what to do for a token.
type Action uint8

// The actions.
const (
	Wait           Action = iota // nothing before Until
	Mint                         // ask the source
	ProbeCandidate               // try the candidate
	ProbePublished               // try the published value again
	Publish                      // make the candidate the next version
	Drop                         // give the candidate up
)

func (a Action) String() string {
	return [...]string{"wait", "mint", "probe candidate", "probe published", "publish", "drop"}[a]
}

// Codes say why, one stable word each; the reason says it for people.
const (
	codeFirst        = "first"         // there is no value yet
	codeSchedule     = "schedule"      // the configured schedule
	codeBeforeExpiry = "before_expiry" // the end is near
	codeExpired      = "expired"       // the end has come
	codeRevoked      = "revoked"       // a confirmed 401
	codeRequested    = "requested"     // a person asked
	codeRetry        = "retry"         // the last attempt failed
	codeCandidate    = "candidate"     // a candidate is to be judged
	codeAccepted     = "accepted"      // the candidate was accepted
	codeUnproven     = "unproven"      // no probe is configured
	codeUnverified   = "unverified"    // no probe could tell for too long
	codeSameAccess   = "same_access"   // both have no access, the new one lives longer
	codeSameValue    = "same_value"    // the source gave what is published already
	codeNotLonger    = "not_longer"    // the candidate does not live longer
	codeRejected     = "rejected"      // the candidate was rejected
	codeConfirm      = "confirm"       // a 401 is to be confirmed
	codeReported     = "reported"      // a consumer reported a 401
	codeReprobe      = "reprobe"       // the probe's schedule
	codeBusy         = "busy"          // a worker is at it
)

// Decision is what to do for a token now.
type Decision struct {
	Do Action
	// Until is when to decide again if nothing happens: the time of the next
	// plan. Zero when only an event can change anything.
	Until time.Time
	// Code and Reason say why; of a Wait what is waited for.
	Code, Reason string

	// Failed: a dropped candidate counts as a failed attempt. Result is how
	// the refresh that it belongs to ended.
	Failed bool
	Result RefreshResult

	// NextRefresh and NextProbe are, of a Wait, the times of those plans; zero
	// if there are none.
	NextRefresh, NextProbe time.Time
}

// plan is an action at a time.
type plan struct {
	at time.Time // zero: no plan
	Decision
}

func at(t time.Time, do Action, code, reason string) plan {
	return plan{at: t, Decision: Decision{Do: do, Code: code, Reason: reason}}
}

// Decide says what to do for a token at now. It is pure. Each of the checks
// has a plan or none; the first whose time has come is carried out.
func Decide(p Policy, s State, now time.Time) Decision {
	checks := [...]plan{
		planCandidate(p, s, now),
		planConfirm(p, s, now),
		planReport(p, s, now),
		planMint(p, s, now),
		planReprobe(p, s, now),
		planExpiry(s, now),
	}
	wait := s.underWay(now)
	told := wait.Reason != ""
	for i, c := range checks {
		if c.at.IsZero() || !p.Probed && (c.Do == ProbeCandidate || c.Do == ProbePublished) {
			continue
		}
		if c.Do != Wait && !c.at.After(now) {
			return c.Decision
		}
		if wait.Until.IsZero() && (i == 0 || !told) {
			// What the candidate waits for, else what is under way, else what comes first.
			wait.Code, wait.Reason = c.Code, c.Reason
		}
		wait.Until = earlier(wait.Until, c.at)
	}
	if wait.Reason == "" {
		wait.Reason = "in progress"
	}
	wait.NextRefresh, wait.NextProbe = checks[3].at, checks[4].at
	return wait
}

// underWay says what workers are doing for a new value, where that is what the
// token waits for.
func (s State) underWay(now time.Time) Decision {
	d := Decision{Code: codeBusy}
	switch {
	case s.ProbingCandidate && s.Held != nil:
		d.Code, d.Reason = codeCandidate, s.provingReason()
	case s.usable(now):
	case s.Saving:
		d.Reason = "a new value is being saved"
	case s.Minting:
		d.Reason = s.afterFailures("a new value is asked for")
	}
	return d
}

// provingReason is what a candidate waits for that no probe could judge yet.
func (s State) provingReason() string {
	if s.Held.Finding.Verdict == Unproven {
		return s.afterFailures("a new value is to be proven")
	}
	return "the new value is held back until a probe can tell: " + s.Held.Finding.Reason
}

// afterFailures adds to a reason what went wrong before.
func (s State) afterFailures(reason string) string {
	if s.Failures == 0 {
		return reason
	}
	return fmt.Sprintf("%s; attempt %d failed: %s", reason, s.Failures, s.LastFailure)
}

// planCandidate judges the candidate.
func planCandidate(p Policy, s State, now time.Time) plan {
	c := s.Held
	if c == nil || s.Saving {
		return plan{}
	}
	if c.expiredAt(now) {
		return drop(now, codeExpired, "the new value expired before it could be proven", ResultFailed, true)
	}
	if v := s.Published; v != nil {
		urgent := p.insideBeforeExpiry(v, now)
		switch {
		case c.Value == v.Value && s.Proof.Verdict == RejectedToken:
			return drop(now, codeSameValue, "the source gave the revoked value again", ResultUnchanged, true)
		case c.Value == v.Value && urgent:
			return drop(now, codeSameValue, "the source gave the same value again although its end is near", ResultUnchanged, true)
		case c.Value == v.Value:
			return drop(now, codeSameValue, "the source gave the same value again", ResultUnchanged, false)
		case s.usable(now) && !s.SourceChanged && !livesLonger(c, v):
			return drop(now, codeNotLonger, "the new value does not live longer than the published one", ResultUnchanged, urgent)
		}
	}
	switch c.Finding.Verdict {
	case Accepted:
		return at(now, Publish, codeAccepted, "the new value was accepted")
	case RejectedToken:
		return drop(now, codeRejected, "the new value was rejected: "+c.Finding.Reason, ResultRejected, true)
	case RejectedAccess:
		return planNoAccess(p, s, now)
	case Unproven:
		if !p.Probed {
			return at(now, Publish, codeUnproven, "no probe is configured")
		}
		return probeCandidate(p, s, now)
	}
	// Unknown: probe again, or publish unverified when waiting longer would
	// leave readers without a value. A probe under way may tell yet.
	probe := probeCandidate(p, s, now)
	if p.ProbeRequired || s.Refused == c.Value || s.ProbingCandidate {
		return probe
	}
	if t := unverifiedAt(p, s); !t.After(now) || t.Before(probe.at) {
		return at(t, Publish, codeUnverified, "no probe could tell: "+c.Finding.Reason)
	}
	return probe
}

// probeAllowed is when a probe that no reader asked for may start: after the
// backoff, what the server asked for, and within the budget.
func (s State) probeAllowed(p Policy) time.Time {
	return later(s.probeWelcome(p), s.probes.ready(probeBurst))
}

// probeWelcome is the same without the budget.
func (s State) probeWelcome(p Policy) time.Time {
	return later(s.ProbeNotBefore, s.probeAsked.end(p.deadline(s.Published)))
}

func drop(now time.Time, code, reason string, result RefreshResult, failed bool) plan {
	d := at(now, Drop, code, reason)
	d.Result, d.Failed = result, failed
	return d
}

// livesLonger tells whether c may replace v by its end. Where an end is not
// known the source's order decides.
func livesLonger(c *Candidate, v *Version) bool {
	return c.ExpiresAt.IsZero() || v.ExpiresAt.IsZero() || c.ExpiresAt.After(v.ExpiresAt)
}

func probeCandidate(p Policy, s State, now time.Time) plan {
	if s.ProbingCandidate {
		return plan{}
	}
	return at(later(now, s.probeAllowed(p)), ProbeCandidate, codeCandidate, s.provingReason())
}

// planNoAccess: a candidate without access replaces only a value that has no
// access either, is near its end, and was probed since the candidate came.
func planNoAccess(p Policy, s State, now time.Time) plan {
	rejected := drop(now, codeRejected, "the new value has no access: "+s.Held.Finding.Reason, ResultRejected, true)
	v := s.Published
	if v == nil || p.ProbeRequired || s.Proof.Verdict != RejectedAccess || !p.insideBeforeExpiry(v, now) {
		return rejected
	}
	if v.ExpiredAt(now) {
		return at(now, Publish, codeSameAccess, "neither the old value nor the new one has access, and the old one expired")
	}
	if s.ProbedAt.Before(s.Held.HeldSince) {
		if s.ProbingPublished {
			return plan{}
		}
		return at(now, ProbePublished, codeSameAccess, "the new value got 403: whether the published one still has access is looked at")
	}
	if !s.DoubtSince.IsZero() || !s.SuspectSince.IsZero() {
		return rejected
	}
	return at(now, Publish, codeSameAccess, "neither the old value nor the new one has access, and the old one ends sooner")
}

// unverifiedAt is when the candidate may be published although no probe can
// tell: after the grace, at most a quarter of what the current value has left
// then, and not while the current value has time.
func unverifiedAt(p Policy, s State) time.Time {
	since := s.Held.unprovenSince()
	t := since.Add(p.Grace)
	if !s.Held.ExpiresAt.IsZero() {
		t = earlier(t, since.Add(s.Held.ExpiresAt.Sub(since)/4))
	}
	v := s.Published
	if v == nil || s.Proof.Verdict == RejectedToken || v.ExpiredAt(since) {
		return t
	}
	if v.ExpiresAt.IsZero() {
		return later(t, v.MintedAt.Add(mostLifetime-mostLifetime/3))
	}
	// The t at which t - since is a quarter of end - t.
	t = earlier(t, since.Add(v.ExpiresAt.Sub(since)/5))
	return later(t, p.deadline(v))
}

// planConfirm probes a 401 again before it is believed.
func planConfirm(p Policy, s State, now time.Time) plan {
	if s.SuspectSince.IsZero() || s.ProbingPublished || s.Published.ExpiredAt(now) {
		return plan{}
	}
	if s.confirmsAtOnce() {
		return at(later(now, s.probeAsked.end(p.deadline(s.Published))), ProbePublished, codeConfirm, "the API refused the published value to a reader")
	}
	t, allowed := s.SuspectSince, s.probeAllowed(p)
	if !s.Witnessed {
		t = t.Add(confirmAfter)
	}
	if s.heeding {
		allowed = s.probeWelcome(p)
	}
	return at(later(t, allowed), ProbePublished, codeConfirm, "the published value was rejected once")
}

// confirmsAtOnce tells whether a 401 that was witnessed is yet to be looked
// into: only the first probe for it has no other limit.
func (s State) confirmsAtOnce() bool { return s.Witnessed && s.untried }

// planReport probes because a consumer had a 401.
func planReport(p Policy, s State, now time.Time) plan {
	if !s.Reported || s.ProbingPublished || !s.SuspectSince.IsZero() {
		return plan{}
	}
	t := later(now, s.probeAsked.end(p.deadline(s.Published)))
	if !s.ReportedAt.IsZero() {
		t = later(t, s.ReportedAt.Add(reportEvery))
	}
	return at(t, ProbePublished, codeReported, "a reader reports that the value was rejected")
}

// planReprobe probes the published value on schedule; sooner while nobody
// could tell of it, or when it may have been called revoked by mistake.
func planReprobe(p Policy, s State, now time.Time) plan {
	if !p.Probed || s.Published == nil || s.ProbingPublished || s.Saving || s.Published.ExpiredAt(now) {
		return plan{}
	}
	if !s.SuspectSince.IsZero() {
		return plan{} // the confirmation comes first
	}
	allowed := s.probeAllowed(p)
	if s.Unchecked || s.Proof.Verdict == Unknown || s.Proof.Verdict == Unproven {
		return at(later(now, allowed), ProbePublished, codeReprobe, "the published value is not proven")
	}
	next := p.Reprobe(s.ProbedAt)
	if s.Proof.Verdict == RejectedToken {
		next = earlier(next, later(s.ProbedAt.Add(revokedReprobe), s.probes.ready(probeBurst/2)))
	}
	if s.Throttle > 0 {
		every := next.Sub(s.ProbedAt) << min(s.Throttle, 10)
		next = s.ProbedAt.Add(max(min(every, reprobeMax), next.Sub(s.ProbedAt)))
	}
	return at(later(next, allowed), ProbePublished, codeReprobe, "the published value is probed again")
}

// planMint asks the source for a value.
func planMint(p Policy, s State, now time.Time) plan {
	if s.Minting || s.Saving {
		return plan{}
	}
	if s.Requested {
		return at(now, Mint, codeRequested, "a person asked for it")
	}
	if s.Held != nil && s.ProbingCandidate {
		return plan{} // what the probe says of it would be lost
	}
	v := s.Published
	m := at(now, Mint, codeSchedule, "scheduled refresh")
	if !s.MintedAt.IsZero() {
		m.at = p.Refresh(s.MintedAt).Add(time.Duration(s.phase * float64(p.Jitter)))
	}
	// A candidate under judgement stands for the value that would be asked for.
	if s.Held == nil {
		switch deadline := p.deadline(v); {
		case v == nil:
			m = at(now, Mint, codeFirst, "there is no value yet")
		case s.Proof.Verdict == RejectedToken:
			m = at(now, Mint, codeRevoked, "the published value was revoked")
		case v.ExpiredAt(now):
			m = at(now, Mint, codeExpired, "the published value expired")
		case !deadline.IsZero() && deadline.Before(m.at):
			m = at(deadline, Mint, codeBeforeExpiry, "the published value expires at "+v.ExpiresAt.UTC().Format(time.RFC3339))
		}
	}
	if s.Failures > 0 && s.Held == nil {
		m.at = s.NotBefore
		m.Code, m.Reason = codeRetry, s.afterFailures(m.Reason)
	}
	m.at = later(m.at, s.NotBefore)
	m.at = later(m.at, s.mintAsked.end(p.deadline(v)))
	return m
}

// planExpiry wakes up when the published value ends, to say so.
func planExpiry(s State, now time.Time) plan {
	if s.Published == nil || s.Published.ExpiresAt.IsZero() || s.Published.ExpiredAt(now) {
		return plan{}
	}
	return at(s.Published.ExpiresAt, Wait, codeExpired, "the published value expires")
}
