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

// Line sums a document up in one line, as systemd shows it: how all are, or
// what the worst of them is missing.
func Line(doc Document) string {
	if len(doc.Tokens) == 0 {
		return "no tokens configured"
	}
	worst := slices.MinFunc(doc.Tokens, func(a, b Token) int { return cmp.Compare(rank(a), rank(b)) })
	if rank(worst) < fine {
		line := oneLine(worst.Name + ": " + worst.plight(doc.At))
		more := 0
		for _, t := range doc.Tokens {
			if rank(t) < fine {
				more++
			}
		}
		tail := ""
		if more > 1 {
			tail = fmt.Sprintf(" (and %d more in trouble)", more-1)
		}
		return cut(line, maxLine-len(tail)) + tail
	}
	return countStates(doc.Tokens) + nextRefresh(doc)
}

// fine and above are tokens in good order.
const fine = 7

// rank orders tokens by how much they need a person, most first.
func rank(t Token) int {
	switch {
	case !t.valid() && t.Required:
		return 0
	case !t.valid():
		return 1
	case t.State == refresher.NoAccess:
		return 2
	case t.Failures > 0:
		return 3
	case t.State == refresher.Unverified || t.DoubtSince != nil:
		return 4
	case t.held() < len(t.Sinks):
		return 5
	case t.StoreFailure != "":
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
	switch {
	case t.State == refresher.Pending:
		return "no token yet" + because(first(t.LastFailure, t.Reason))
	case t.State == refresher.Expired && t.ExpiresAt != nil:
		return "expired " + about(now.Sub(*t.ExpiresAt)) + " ago" + failing
	case !t.valid():
		return string(t.State) + because(first(t.LastFailure, t.VerdictReason))
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
func countStates(tokens []Token) string {
	line := ""
	for _, h := range refresher.Healths {
		n := 0
		for _, t := range tokens {
			if t.State == h {
				n++
			}
		}
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

func nextRefresh(doc Document) string {
	var next *time.Time
	for _, t := range doc.Tokens {
		if t.NextRefresh != nil && (next == nil || t.NextRefresh.Before(*next)) {
			next = t.NextRefresh
		}
	}
	switch {
	case next == nil:
		return ""
	case !next.After(doc.At):
		return ", refreshing now"
	}
	return ", next refresh in " + about(next.Sub(doc.At))
}
