package refresher

import (
	"math"
	"time"
)

// How long failures wait. A token in trouble makes at most 13 mints and 24
// probes in any hour: five retries come quickly, then one each 7.5 minutes
// (probes: eight, then one each 3.75 minutes). So no trouble ends unnoticed
// for ten minutes, and nobody's API is hammered. Both are shorter where values
// live shorter or the configured schedule itself asks more often.
const (
	backoffFirst  = time.Second
	backoffFactor = 4
	backoffMax    = 5 * time.Minute

	mintBurst    = 5
	mintInterval = 450 * time.Second
	mintShare    = 96 // the interval is at most this part of a lifetime: 7.5 min of 12 h

	probeBurst    = 8
	probeInterval = 225 * time.Second
	probeShare    = 192

	retryAfterMax    = time.Hour       // longest Retry-After that is obeyed
	retryAfterUrgent = 5 * time.Minute // the same inside before_expiry

	confirmAfter = 5 * time.Second  // between a 401 and the probe that confirms it
	reportEvery  = 10 * time.Second // reports of consumers start at most one probe in this time
	// witnessBurst is how many 401s that the API gave to readers through us
	// are looked into at once, then one each mintInterval. The probes' budget
	// has room for the first value and for those that follow these.
	witnessBurst    = probeBurst - 2
	revokedReprobe  = time.Minute // a revoked value is tried again: the API may have erred
	reprobeMax      = time.Hour   // longest interval that throttling doubles to
	sameValueMax    = 10 * time.Minute
	urgentRetryMin  = 5 * time.Second
	permanentClimbs = 3 // a failure that only a person can mend starts this far up the backoff
)

// backoff is the wait after the n-th failure in a row, n from 1: full jitter
// below a bound that grows to limit. Roll in [0,1) is the chance.
func backoff(n int, limit time.Duration, roll float64) time.Duration {
	bound := float64(backoffFirst) * math.Pow(backoffFactor, float64(min(n-1, 16)))
	return time.Duration(roll * min(bound, float64(limit)))
}

// budget is a token bucket: tat is when it will be full again, one interval
// for each use. The zero budget is full.
type budget struct {
	tat      time.Time
	interval time.Duration
}

// take uses one. Use beyond the burst is forgiven: the budget limits retries,
// what a schedule asks for is asked for.
func (b budget) take(now time.Time, interval time.Duration, burst int) budget {
	tat := b.tat
	if tat.Before(now) {
		tat = now
	}
	tat = tat.Add(interval)
	if full := now.Add(time.Duration(burst) * interval); tat.After(full) {
		tat = full
	}
	return budget{tat, interval}
}

// ready is when one may be used; a smaller burst leaves the rest for others.
func (b budget) ready(burst int) time.Time {
	return b.tat.Add(-time.Duration(burst-1) * b.interval)
}

// asked is a server's wish to be left alone.
type asked struct{ at, until time.Time }

func askedFor(d time.Duration, now time.Time) asked {
	if d <= 0 {
		return asked{}
	}
	return asked{at: now, until: now.Add(min(d, retryAfterMax))}
}

// end is until when the wish is obeyed, for a value with this deadline (zero:
// none). Past the deadline patience is short.
func (a asked) end(deadline time.Time) time.Time {
	if deadline.IsZero() || a.until.IsZero() {
		return a.until
	}
	return earlier(a.until, later(a.at, deadline).Add(retryAfterUrgent))
}

// paceOf is the interval of a budget for values of a lifetime (zero: unknown)
// under a schedule.
func paceOf(normal, lifetime time.Duration, share int, next func(time.Time) time.Time, now time.Time) time.Duration {
	if lifetime > 0 {
		normal = min(normal, lifetime/time.Duration(share))
	}
	if next != nil {
		first := next(now)
		normal = min(normal, next(first).Sub(first))
	}
	return normal
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earlier returns the earlier of two times; a zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
