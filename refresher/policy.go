package refresher

import "time"

// Policy is what a token's configuration wants. Its functions are pure: the
// same time gives the same answer.
type Policy struct {
	// Refresh gives the next scheduled refresh strictly after a time.
	Refresh func(time.Time) time.Time
	// Jitter delays each scheduled refresh by a random part of itself.
	Jitter time.Duration
	// BeforeExpiry is how long before its end a value is replaced at the
	// latest. Zero means a third of the lifetime; it is at most half of it.
	BeforeExpiry time.Duration

	// Probed: candidates are proven before they are published. The fields
	// below mean nothing without it.
	Probed bool
	// Reprobe gives the next probe of the published value strictly after a time.
	Reprobe func(time.Time) time.Time
	// Grace is how long a candidate that no probe can judge is held back
	// before it may be published unverified.
	Grace time.Duration
	// ProbeRequired forbids to publish anything that was not accepted.
	ProbeRequired bool
}

// Defaults of the configuration.
const (
	DefaultRefresh = "@every 1h"
	DefaultReprobe = "@every 15m"
	DefaultGrace   = 30 * time.Second
)

// beforeExpiry is how long before the end of a value minted at from and ending
// at to its replacement is due. The end must be known.
func (p Policy) beforeExpiry(from, to time.Time) time.Duration {
	lifetime := max(to.Sub(from), 0)
	if p.BeforeExpiry == 0 {
		return lifetime / 3
	}
	return min(p.BeforeExpiry, lifetime/2)
}

// deadline is when v must be replaced whatever the schedule says; zero when v
// has no known end.
func (p Policy) deadline(v *Version) time.Time {
	if v == nil || v.ExpiresAt.IsZero() {
		return time.Time{}
	}
	return v.ExpiresAt.Add(-p.beforeExpiry(v.MintedAt, v.ExpiresAt))
}

// Deadline is when v must be replaced whatever the schedule says: before_expiry
// before its end. It is zero when v has no known end.
func (p Policy) Deadline(v Version) time.Time { return p.deadline(&v) }

// insideBeforeExpiry tells whether v's deadline has passed at now.
func (p Policy) insideBeforeExpiry(v *Version, now time.Time) bool {
	d := p.deadline(v)
	return !d.IsZero() && !now.Before(d)
}
