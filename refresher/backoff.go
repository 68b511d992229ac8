package refresher

import (
	"math"
	"time"
)

// How long failures wait. A token in trouble makes at most 13 mints and 24
// probes in any hour: five or six come quickly, then one each 8.6 minutes
// (probes: eight or nine, then one each 4 minutes); a scheduled one may come
// between. So no trouble ends unnoticed for ten minutes, nobody's API is
// hammered, and daemons that failed together do not retry in lockstep. Both are
// shorter where values live shorter or the configured schedule itself asks more
// often.
const (
	backoffFirst  = time.Second
	backoffFactor = 4
	backoffMax    = 5 * time.Minute

	mintBurst    = 5
	mintInterval = 515 * time.Second
	mintShare    = 84 // the interval is at most this part of a lifetime: 8.6 min of 12 h

	probeBurst    = 8
	probeInterval = 240 * time.Second
	probeShare    = 180

	// mostLifetime is how long an IAM token lives at most.
	// https://yandex.cloud/en/docs/iam/concepts/authorization/iam-token#lifetime
	mostLifetime = 12 * time.Hour

	retryAfterMax    = time.Hour       // longest Retry-After that is obeyed
	retryAfterUrgent = 5 * time.Minute // the same inside before_expiry

	// A trial of a change probes this often, with pauses of once and twice this
	// and up to half as long again: a change that is refused is tried again.
	trialProbes = 3
	trialPause  = 5 * time.Second

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
// what a schedule asks for is asked for. A budget that nobody used fills up to
// a part roll in [0,1) beyond its burst, so that what thousands of daemons lose
// at the same moment does not come back to all of them at once.
func (b budget) take(now time.Time, interval time.Duration, burst int, roll float64) budget {
	tat := later(b.tat, now.Add(-time.Duration(roll*float64(interval)))).Add(interval)
	if full := now.Add(time.Duration(burst) * interval); tat.After(full) {
		tat = full
	}
	return budget{tat, interval}
}

// spare is b with room for one at now.
func (b budget) spare(now time.Time, burst int) budget {
	b.tat = earlier(b.tat, now.Add(time.Duration(burst-1)*b.interval))
	return b
}

// ready is when one may be used; a smaller burst leaves the rest for others.
func (b budget) ready(burst int) time.Time {
	return b.tat.Add(-time.Duration(burst-1) * b.interval)
}

// asked is a server's wish to be left alone.
type asked struct{ at, until time.Time }

// askedFor is the wish to be left alone for d. A server tells the same to all
// that it turns away in one moment: they come back spread over half as long
// again.
func askedFor(d time.Duration, now time.Time, roll float64) asked {
	if d <= 0 {
		return asked{}
	}
	d = min(d, retryAfterMax)
	d += time.Duration(roll * float64(d) / 2)
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
