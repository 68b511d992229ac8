package refresher

import (
	"slices"
	"time"
)

// Health is the state of a token in one word.
type Health string

// The healths, in the words of status, metrics and logs.
const (
	Pending    Health = "pending"    // nothing published yet
	Fresh      Health = "fresh"      // published and accepted (or published without a probe)
	Unchecked  Health = "unchecked"  // restored after a restart, not yet probed again
	Unverified Health = "unverified" // published although no probe could tell
	NoAccess   Health = "no_access"  // served, but the API refuses access to it (403)
	Revoked    Health = "revoked"    // the API refuses the value (401), confirmed
	Expired    Health = "expired"    // its end has come
)

// Healths lists every Health, for metrics.
var Healths = []Health{Pending, Fresh, Unchecked, Unverified, NoAccess, Revoked, Expired}

// Status is a snapshot of a token. It is immutable and shared: readers must
// not change what it points to. All times are wall time as the servers see it.
type Status struct {
	Token    string
	Source   string // the source's identity
	Probe    string // the probe's target; empty without one
	Required bool

	// Version is the published version; nil before the first.
	Version *Version
	// Health is the state at the time of the snapshot; see [Status.HealthAt].
	Health Health
	// Proof is the last finding about Version that told something.
	Proof Finding
	// VerifiedAt is when Version was last accepted; zero if never.
	VerifiedAt time.Time
	// DoubtSince is since when probes of Version cannot tell; zero if they can.
	DoubtSince time.Time
	// Witnessed: the API refused Version to a reader, and it is not yet settled
	// whether Version is bad.
	Witnessed bool
	// Candidate: a minted value is held back until a probe can tell.
	Candidate bool

	// Code and Reason say what the token is waiting for: Code one stable
	// word, Reason for people.
	Code, Reason string
	// NextRefresh is when the source is asked next, NextProbe when Version is
	// probed next; zero when that is not planned.
	NextRefresh, NextProbe time.Time

	// Failures counts failed attempts in a row; LastFailure is the newest,
	// FailingSince the time of the first.
	Failures     int
	LastFailure  string
	FailingSince time.Time
	// StoreFailure says why the state could not be saved; empty when it was.
	StoreFailure string

	Sinks []SinkStatus

	// Refreshes counts ended refreshes by result.
	Refreshes RefreshCounts
	// Probes counts findings; the index is the Verdict.
	Probes ProbeCounts
}

// Obstacle says for people why there is no newer version yet: what holds the
// candidate back, else the last failure, else what is waited for.
func (s Status) Obstacle() string {
	if s.Candidate || s.LastFailure == "" {
		return s.Reason
	}
	return s.LastFailure
}

// HealthAt is the health at now: a published version expires between snapshots.
func (s Status) HealthAt(now time.Time) Health {
	if s.Version != nil && s.Health != Revoked && s.Version.ExpiredAt(now) {
		return Expired
	}
	return s.Health
}

// Servable tells whether a reader may be given Version at now: there is one,
// it is not expired and not revoked.
func (s Status) Servable(now time.Time) bool {
	switch s.HealthAt(now) {
	case Pending, Revoked, Expired:
		return false
	}
	return true
}

// SinkStatus is a snapshot of one sink of a token.
type SinkStatus struct {
	ID string
	// N is the number of the version that the sink holds; 0 if none.
	N uint64
	// Current: the sink holds the published version.
	Current bool
	// Failure says why it does not; empty when it does or is about to.
	Failure string
	// Contested: somebody else keeps changing the target, it is left alone
	// until the next version.
	Contested bool
}

// RefreshResult is how a refresh ended, in the words of logs and metrics.
type RefreshResult string

// The results of a refresh.
const (
	ResultPublished RefreshResult = "published" // a new version
	ResultUnchanged RefreshResult = "unchanged" // the source gave the same value again, or none that lives longer
	ResultHeld      RefreshResult = "held"      // the candidate waits for a probe that can tell
	ResultRejected  RefreshResult = "rejected"  // the candidate was rejected
	ResultFailed    RefreshResult = "failed"    // the source gave none
)

// RefreshResults lists every RefreshResult, for metrics.
var RefreshResults = [...]RefreshResult{ResultPublished, ResultUnchanged, ResultHeld, ResultRejected, ResultFailed}

// RefreshCounts counts refreshes in the order of RefreshResults.
type RefreshCounts [len(RefreshResults)]uint64

// Of is how many ended with r.
func (c RefreshCounts) Of(r RefreshResult) uint64 { return c[slices.Index(RefreshResults[:], r)] }

func (c *RefreshCounts) add(r RefreshResult) { c[slices.Index(RefreshResults[:], r)]++ }

// ProbeCounts counts findings by Verdict.
type ProbeCounts [len(verdictNames)]uint64
