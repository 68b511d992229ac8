package status

import (
	"time"

	"iam-token-refresher/refresher"
)

// Document is what "status -o json" prints and the socket's list of tokens is.
type Document struct {
	At      time.Time `json:"at"` // when it was made
	Version string    `json:"daemon_version"`
	Tokens  []Token   `json:"tokens"`
}

// Token describes one token. Times are wall time in whole seconds, UTC; null
// when there is none.
type Token struct {
	Name     string `json:"name"`
	Source   string `json:"source"`
	Probe    string `json:"probe"` // empty without one
	Required bool   `json:"required"`

	State         refresher.Health  `json:"state"`
	Verdict       refresher.Verdict `json:"verdict"` // about the published version
	VerdictReason string            `json:"verdict_reason"`

	Version     uint64     `json:"version"` // 0 before the first
	Lineage     string     `json:"lineage"`
	Type        string     `json:"type"`
	ExpiresAt   *time.Time `json:"expires_at"` // null: nobody knows
	ExpiresIn   *int64     `json:"expires_in"` // seconds, rounded down, at least 0
	PublishedAt *time.Time `json:"published_at"`
	VerifiedAt  *time.Time `json:"verified_at"`
	DoubtSince  *time.Time `json:"doubt_since"`
	Candidate   bool       `json:"candidate"` // a newer value is waiting for a probe result

	NextRefresh *time.Time `json:"next_refresh"`
	NextProbe   *time.Time `json:"next_probe"`
	Code        string     `json:"code"` // of what it waits for, one stable word
	Reason      string     `json:"reason"`

	Failures     int        `json:"failures"` // in a row
	LastFailure  string     `json:"last_failure"`
	FailingSince *time.Time `json:"failing_since"`
	StoreFailure string     `json:"store_failure"`

	Sinks []Sink `json:"sinks"`
}

// Sink describes one sink of a token.
type Sink struct {
	ID        string `json:"id"`
	Version   uint64 `json:"version"` // 0: none
	Current   bool   `json:"current"`
	Failure   string `json:"failure"`
	Contested bool   `json:"contested"`
	// HookFailure says why on_change has not yet been carried out.
	HookFailure string            `json:"hook_failure,omitempty"`
	Reads       map[string]uint64 `json:"reads,omitempty"` // by result; only of sinks that are asked
}

// Describe puts a snapshot into words as of now.
func Describe(s refresher.Status, now time.Time) Token {
	t := Token{
		Name:          s.Token,
		Source:        s.Source,
		Probe:         s.Probe,
		Required:      s.Required,
		State:         s.HealthAt(now),
		Verdict:       s.Proof.Verdict,
		VerdictReason: s.Proof.Reason,
		VerifiedAt:    moment(s.VerifiedAt),
		DoubtSince:    moment(s.DoubtSince),
		Candidate:     s.Candidate,
		NextRefresh:   moment(s.NextRefresh),
		NextProbe:     moment(s.NextProbe),
		Code:          s.Code,
		Reason:        s.Reason,
		Failures:      s.Failures,
		LastFailure:   s.LastFailure,
		FailingSince:  moment(s.FailingSince),
		StoreFailure:  s.StoreFailure,
		Sinks:         make([]Sink, len(s.Sinks)),
	}
	if v := s.Version; v != nil {
		t.Version, t.Lineage, t.Type = v.N, v.Lineage, v.Type
		t.PublishedAt, t.ExpiresAt = moment(v.PublishedAt), moment(v.ExpiresAt)
		if !v.ExpiresAt.IsZero() {
			t.ExpiresIn = new(max(0, int64(v.ExpiresAt.Sub(now)/time.Second)))
		}
	}
	for i, sink := range s.Sinks {
		t.Sinks[i] = Sink{ID: sink.ID, Version: sink.N, Current: sink.Current, Failure: sink.Failure, Contested: sink.Contested}
	}
	return t
}

// moment is a time as the document shows it.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC().Truncate(time.Second))
}

// valid tells whether readers are given the token's value.
func (t Token) valid() bool { return valid(t.State) }

// valid tells whether readers are given a value in that state.
func valid(h refresher.Health) bool {
	switch h {
	case refresher.Pending, refresher.Revoked, refresher.Expired:
		return false
	}
	return true
}

// held counts the sinks that hold the published version.
func (t Token) held() int {
	n := 0
	for _, s := range t.Sinks {
		if s.Current {
			n++
		}
	}
	return n
}
