package refresher

import (
	"errors"
	"fmt"
	"time"
)

// Types of values, as published in the socket's JSON.
const (
	TypeIAM   = "iam"
	TypeOAuth = "oauth"
)

// Minted is what a source gave.
type Minted struct {
	Value Value
	Type  string // TypeIAM or TypeOAuth
	// ExpiresAt is wall time; zero when the source does not know. What is
	// beyond the year 9999 is taken for its end.
	ExpiresAt time.Time
	// ServerTime is the time that the answering server's Date header named;
	// zero when there was none, or the server is not the cloud's. The local
	// clock is judged by it, for all tokens.
	ServerTime time.Time
}

// Version is one published value of a token. It is immutable.
type Version struct {
	Token   string
	Lineage string // random; kept with the state, new at a cold start
	N       uint64 // from 1 within the lineage
	Value   Value
	Type    string
	// MintedAt, ExpiresAt and PublishedAt are wall time. A zero ExpiresAt means
	// that nobody knows when the value expires.
	MintedAt, ExpiresAt, PublishedAt time.Time
}

// ETag identifies a version on the socket: lineage and number, without quotes.
func (v Version) ETag() string { return fmt.Sprintf("%s-%d", v.Lineage, v.N) }

// ExpiredAt tells whether the value's end has come at now.
func (v Version) ExpiredAt(now time.Time) bool {
	return !v.ExpiresAt.IsZero() && !now.Before(v.ExpiresAt)
}

// Verdict is what a probe says of a value.
type Verdict uint8

// The verdicts. The zero Verdict says that nothing was tried.
const (
	Unproven       Verdict = iota
	Accepted               // the API took it
	RejectedToken          // the API says that the value is bad (401)
	RejectedAccess         // the value is fine, but has no access (403)
	Unknown                // nothing can be told: timeouts, 429, 5xx, what is not the API's own answer
)

var verdictNames = [...]string{"unproven", "accepted", "rejected: token", "rejected: access", "unknown"}

func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return fmt.Sprintf("Verdict(%d)", uint8(v))
	}
	return verdictNames[v]
}

// MarshalText implements [encoding.TextMarshaler].
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, name := range verdictNames {
		if string(b) == name {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("unknown verdict %q", b)
}

// Finding is the outcome of a probe. It is never an error: what cannot be told
// is [Unknown].
type Finding struct {
	Verdict Verdict
	// Reason is for people: what was asked and what came back, no secrets.
	Reason string
	// RetryAfter is how long the server asked to be left alone; zero if it did not.
	RetryAfter time.Duration
	// Throttled: the server said that it is asked too often (429).
	Throttled bool
	// ServerTime is as in [Minted].
	ServerTime time.Time
}

// Failure is the error of a mint when its source knows more than that it
// failed. Sources return it, possibly wrapped; an error without one is transient.
// [Refresher.Swap] returns one as well.
type Failure struct {
	Err error
	// RetryAfter is how long the server asked to be left alone; zero if it did not.
	RetryAfter time.Duration
	// Permanent: trying again is not expected to help until a person acts.
	Permanent bool
	// ServerTime is as in [Minted].
	ServerTime time.Time
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// AsFailure returns the Failure in err's chain, or one that wraps err.
func AsFailure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return &Failure{Err: err, RetryAfter: f.RetryAfter, Permanent: f.Permanent, ServerTime: f.ServerTime}
	}
	return &Failure{Err: err}
}

// Invalid is a mistake in one field of an option struct.
type Invalid struct {
	Field   string // YAML keys joined by dots, from the struct that was validated
	Problem string // what is wrong and what would be right, no secrets
}

func (e *Invalid) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}
