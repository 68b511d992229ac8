package status

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"iam-token-refresher/refresher"
)

// maxLine keeps the line on one screen in "systemctl status".
const maxLine = 200

// Line sums snapshots up in one line, as systemd shows it: how all are at now,
// or what the worst of them is missing.
func Line(tokens []refresher.Status, now time.Time) string {
	if len(tokens) == 0 {
		return "no tokens configured"
	}
	worst, least, inTrouble := 0, fine, 0
	for i := range tokens {
		rank := rank(&tokens[i], now)
		if rank < fine {
			inTrouble++
		}
		if rank < least {
			worst, least = i, rank
		}
	}
	if inTrouble == 0 {
		return countStates(tokens, now) + nextRefresh(tokens, now)
	}
	line := oneLine(tokens[worst].Token + ": " + Describe(tokens[worst], now).plight(now))
	tail := ""
	if inTrouble > 1 {
		tail = fmt.Sprintf(" (and %d more in trouble)", inTrouble-1)
	}
	return cut(line, maxLine-len(tail)) + tail
}

// fine and above are tokens in good order.
const fine = 7

// rank orders tokens by how much they need a person, most first.
func rank(s *refresher.Status, now time.Time) int {
	state := s.HealthAt(now)
	switch {
	case !valid(state) && s.Required:
		return 0
	case !valid(state):
		return 1
	case state == refresher.NoAccess:
		return 2
	case s.Failures > 0:
		return 3
	case state == refresher.Unverified || !s.DoubtSince.IsZero():
		return 4
	case slices.ContainsFunc(s.Sinks, func(s refresher.SinkStatus) bool { return !s.Current }):
		return 5
	case s.StoreFailure != "":
		return 6
	}
	return fine
}

// plight is a trouble in a few words, the service's own last.
func (t Token) plight(now time.Time) string {
	valid := ""
	if t.ExpiresAt != nil && t.valid() {
		valid = ", token valid for " + about(t.ExpiresAt.Sub(now))
	}
	failing := because(t.LastFailure)
	if t.Candidate && !t.valid() {
		failing = because(t.Reason)
	}
	switch {
	case t.State == refresher.Pending:
		return "no token yet" + cmp.Or(failing, because(t.Reason))
	case t.State == refresher.Expired && t.ExpiresAt != nil:
		return "expired " + about(now.Sub(*t.ExpiresAt)) + " ago" + failing
	case !t.valid():
		return string(t.State) + cmp.Or(failing, because(t.VerdictReason))
	case t.State == refresher.NoAccess:
		return "no access" + valid + because(t.VerdictReason)
	case t.Failures > 0:
		ago := ""
		if t.FailingSince != nil {
			ago = " for " + about(now.Sub(*t.FailingSince))
		}
		return "refresh failing" + ago + valid + failing
	case t.DoubtSince != nil:
		return "not verifiable for " + about(now.Sub(*t.DoubtSince)) + valid + because(doubt(t))
	case t.State == refresher.Unverified:
		return "published unverified" + valid + because(t.VerdictReason)
	case t.held() < len(t.Sinks):
		for _, s := range t.Sinks {
			if !s.Current {
				return s.ID + " does not hold the current version" + because(s.Failure)
			}
		}
	}
	return "state not saved" + because(t.StoreFailure)
}

// countStates writes "2 tokens fresh, 1 unchecked".
func countStates(tokens []refresher.Status, now time.Time) string {
	counts := map[refresher.Health]int{}
	for i := range tokens {
		counts[tokens[i].HealthAt(now)]++
	}
	line := ""
	for _, h := range refresher.Healths {
		n := counts[h]
		switch {
		case n == 0:
		case line != "":
			line += fmt.Sprintf(", %d %s", n, h)
		case n == 1:
			line = fmt.Sprintf("1 token %s", h)
		default:
			line = fmt.Sprintf("%d tokens %s", n, h)
		}
	}
	return line
}

func nextRefresh(tokens []refresher.Status, now time.Time) string {
	var next time.Time
	for i := range tokens {
		if t := tokens[i].NextRefresh; !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	switch {
	case next.IsZero():
		return ""
	case !next.After(now):
		return ", refreshing now"
	}
	return ", next refresh in " + about(next.Sub(now))
}
