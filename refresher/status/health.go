package status

import (
	"fmt"
	"sync/atomic"
	"time"

	"iam-token-refresher/refresher"
)

// Readiness remembers whether everything was once ready: what it takes to
// become ready and to stay so differ. The zero Readiness was never ready; its
// methods may be called concurrently.
type Readiness struct{ reached atomic.Bool }

// Missing says what readiness is missing at now, a line for each; none means
// ready.
func (r *Readiness) Missing(snapshots []refresher.Status, now time.Time) []string {
	missing := Missing(snapshots, now, r.reached.Load())
	if len(missing) == 0 {
		r.reached.Store(true)
	}
	return missing
}

// Reach notes that everything is ready now, also when nobody has asked yet.
func (r *Readiness) Reach() { r.reached.Store(true) }

// Reached tells whether everything was ready at some time.
func (r *Readiness) Reached() bool { return r.reached.Load() }

// Missing says what the tokens are missing to be ready, a line for each. Only
// required tokens count. Until everything was ready once (reached), each must
// have a valid value that all its sinks hold; from then on a valid value is
// enough: a failing refresh, a doubt or a failing sink is no reason to take the
// readers' service away.
func Missing(snapshots []refresher.Status, now time.Time, reached bool) []string {
	var missing []string
	for _, s := range snapshots {
		if !s.Required {
			continue
		}
		if !s.Servable(now) {
			missing = append(missing, oneLine(s.Token+": "+noValue(s, now)))
			continue
		}
		if reached {
			continue
		}
		for _, sink := range s.Sinks {
			if !sink.Current {
				missing = append(missing, oneLine(fmt.Sprintf("%s: version %d is not yet in %s%s", s.Token, s.Version.N, sink.ID, because(sink.Failure))))
			}
		}
	}
	return missing
}

func noValue(s refresher.Status, now time.Time) string {
	why := s.Obstacle()
	switch s.HealthAt(now) {
	case refresher.Expired:
		return fmt.Sprintf("expired %s ago%s", span(now.Sub(s.Version.ExpiresAt)), because(why))
	case refresher.Revoked:
		if !s.Candidate {
			why = first(s.LastFailure, s.Proof.Reason)
		}
		return "revoked" + because(why)
	}
	return "no value yet" + because(why)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// first returns the first of words that says something.
func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
