package refresher

import (
	"testing"
	"time"
)

func TestHealthIsTheWorstThatIsKnown(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	of := func(left time.Duration, v Verdict) State {
		return State{Published: &Version{ExpiresAt: now.Add(left)}, Proof: Finding{Verdict: v}}
	}
	restored := of(time.Hour, Accepted)
	restored.Unchecked = true
	for name, c := range map[string]struct {
		state State
		want  Health
	}{
		"nothing yet":                       {State{}, Pending},
		"accepted":                          {of(time.Hour, Accepted), Fresh},
		"at its end":                        {of(0, Accepted), Expired},
		"past its end, without access":      {of(-time.Hour, RejectedAccess), Expired},
		"revoked, and past its end as well": {of(-time.Hour, RejectedToken), Revoked},
		"without access":                    {of(time.Hour, RejectedAccess), NoAccess},
		"restored":                          {restored, Unchecked},
		"nobody can tell":                   {of(time.Hour, Unknown), Unverified},
		"without a known end":               {State{Published: &Version{}, Proof: Finding{Verdict: Accepted}}, Fresh},
	} {
		if got := c.state.Health(now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
