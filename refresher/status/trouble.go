package status

import (
	"fmt"
	"time"

	"iam-token-refresher/refresher"
)

// troubles says what a person should know about a token beyond its row, the
// gravest first. A token in good order has none.
func (t Token) troubles(now time.Time) []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, oneLine(fmt.Sprintf(format, args...))) }
	switch t.State {
	case refresher.Revoked:
		add("revoked%s", because(t.VerdictReason))
	case refresher.NoAccess:
		add("no access%s", because(t.VerdictReason))
	case refresher.Unverified:
		add("published although no probe could tell%s", because(t.VerdictReason))
	case refresher.Pending:
		if t.Failures == 0 && t.Reason != "" {
			add("waiting: %s", t.Reason)
		}
	}
	if t.Failures > 0 {
		add("refresh failing%s%s%s", since(t.FailingSince, now), attempts(t.Failures), because(t.LastFailure))
	}
	if t.DoubtSince != nil && t.State != refresher.Unverified {
		add("probes cannot tell%s whether it still works%s", since(t.DoubtSince, now), because(doubt(t)))
	}
	if t.Candidate {
		add("a newer value is waiting for a probe result%s", because(t.Reason))
	}
	for _, s := range t.Sinks {
		switch {
		case s.Contested:
			add("%s: somebody else keeps changing it; left alone until the next version%s", s.ID, because(s.Failure))
		case s.Failure != "":
			add("%s: %s", s.ID, s.Failure)
		case !s.Current && t.Version > 0:
			add("%s: does not hold version %d yet", s.ID, t.Version)
		}
		if s.HookFailure != "" {
			add("%s: on_change fails: %s", s.ID, s.HookFailure)
		}
	}
	if t.StoreFailure != "" {
		add("state not saved: %s", t.StoreFailure)
	}
	return list
}

// doubt is why probes cannot tell, where that is what the verdict says.
func doubt(t Token) string {
	if t.Verdict == refresher.Unknown {
		return t.VerdictReason
	}
	return ""
}

func since(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return " for " + span(now.Sub(*t))
}

func attempts(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d attempts)", n)
}
