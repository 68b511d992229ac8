// Package status shows how the tokens are: as a document and a table for
// people and scripts, as health checks, and as metrics. Nothing in it holds a
// secret: it reads [refresher.Status] and never reveals a value.
package status

import (
	"time"

	"iam-token-refresher/refresher"
)

// Source is where the status comes from. Snapshots and Now must be given; the
// rest may be nil. All are called concurrently, by every request anew, and
// must not block.
type Source struct {
	// Snapshots returns a snapshot of each token, in the order of the config.
	Snapshots func() []refresher.Status
	// Now is wall time as the servers see it, like the times in a snapshot.
	Now func() time.Time
	// Alive returns why the daemon is stuck; nil while its loop turns.
	Alive func() error
	// Readiness is shared with whoever else asks for it. Nil gives the
	// handler one of its own.
	Readiness *Readiness
	// Durations holds the histograms.
	Durations *Durations
	// Reads returns how often a sink was read, by result; nil for sinks that
	// cannot tell.
	Reads func(token, sinkID string) map[string]uint64
	// HookFailures returns how often hooks of a token failed; ok is false for a
	// token without any.
	HookFailures func(token string) (n uint64, ok bool)
	// HookFailure says why the hook of a sink has not done its work; empty when
	// it has.
	HookFailure func(token, sinkID string) string
	// Reloads returns how many reloads of the config there were, by result.
	Reloads func() map[string]uint64
	// ClockSkew is how far the local clock is ahead of the servers'.
	ClockSkew func() time.Duration
	// Version is the program's.
	Version string
}

// Document describes all tokens as they are now.
func (s Source) Document() Document {
	now, snapshots := s.Now(), s.Snapshots()
	doc := Document{At: now.UTC().Truncate(time.Second), Version: s.Version, Tokens: make([]Token, len(snapshots))}
	for i, snapshot := range snapshots {
		t := Describe(snapshot, now)
		if s.Reads != nil {
			for j := range t.Sinks {
				t.Sinks[j].Reads = s.Reads(t.Name, t.Sinks[j].ID)
			}
		}
		if s.HookFailure != nil {
			for j := range t.Sinks {
				t.Sinks[j].HookFailure = s.HookFailure(t.Name, t.Sinks[j].ID)
			}
		}
		doc.Tokens[i] = t
	}
	return doc
}
