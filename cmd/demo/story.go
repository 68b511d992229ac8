package main

import (
	"fmt"
	"time"
)

// maxRenewals is how many renewals fit into the demo's minute.
const maxRenewals = 3

// stage is where in the story we are.
type stage uint8

const (
	prove stage = iota
	renew
	outage
	revocation
	summary
	stages // how many there are
)

func (s stage) String() string {
	return [...]string{"mint and prove", "renew", "IAM outage", "revocation", "summary"}[s]
}

// order is what the story wants done now.
type order uint8

const (
	nothing order = iota
	startReaders
	startOutage
	endOutage
	revokeToken
	finish
)

// facts are what the story goes by.
type facts struct {
	status tokenStatus
	held   uint64 // the version that all readers have, or a later one
}

// How long parts of the story may take, and how long they are shown.
const (
	proveWithin  = 15 * time.Second
	renewWithin  = refreshEvery + 5*time.Second // for each renewal
	outageWithin = 24 * time.Second
	freshWithin  = 2*refreshEvery + 5*time.Second
	replaceIn    = 15 * time.Second
	showStart    = 1500 * time.Millisecond
	showOutage   = 500 * time.Millisecond // from a renewal to the outage
	showEnd      = 2 * time.Second
)

// story decides what happens when. It is a state machine without effects.
type story struct {
	renewals int

	stage   stage
	step    step
	since   time.Time // when the step began
	base    uint64    // the version that the step began with
	first   uint64    // the first version
	revoked uint64    // the version that was revoked
}

// step is a part of a stage.
type step uint8

const (
	begin      step = iota
	publishing      // the first value is not everywhere yet
	reading         // readers take it up
	renewing        // some more versions
	calm            // a moment before the outage
	down            // IAM refuses everything
	recovering      // IAM is back, the next attempt is awaited
	ripening        // the next scheduled renewal is awaited, to have a whole life to lose
	lost            // the token is revoked
	ending          // a last look
	over
)

func (s *story) enter(st stage, p step, f facts, now time.Time) {
	s.stage, s.step, s.since, s.base = st, p, now, f.status.Version
}

// next says what is to be done now, and fails when what is awaited does not
// come in time.
func (s *story) next(f facts, now time.Time) (order, error) {
	after := now.Sub(s.since)
	switch s.step {
	case begin:
		s.enter(prove, publishing, f, now)
	case publishing:
		if f.status.everywhere() && f.status.Verdict == "accepted" {
			s.first = f.status.Version
			s.enter(prove, reading, f, now)
			return startReaders, nil
		}
		return nothing, tooLong(after, proveWithin, "no token was proven and published")
	case reading:
		if f.held >= s.first && after >= showStart {
			s.enter(renew, renewing, f, now)
			s.base = s.first
			return nothing, nil
		}
		return nothing, tooLong(after, proveWithin, "not all readers got the first token")
	case renewing:
		if s.renewed(f) >= s.renewals {
			s.enter(outage, calm, f, now)
			return nothing, nil
		}
		return nothing, tooLong(after, time.Duration(s.renewals)*renewWithin, "the token was not renewed often enough")
	case calm:
		if after >= showOutage {
			s.enter(outage, down, f, now)
			return startOutage, nil
		}
	case down:
		if f.status.Failures >= outageCalls {
			s.enter(outage, recovering, f, now)
			return endOutage, nil
		}
		return nothing, tooLong(after, outageWithin, "the daemon did not try to renew during the outage")
	case recovering:
		if f.held > s.base {
			s.enter(revocation, ripening, f, now)
			return nothing, nil
		}
		return nothing, tooLong(after, outageWithin, "the token was not renewed after the outage")
	case ripening:
		if f.held > s.base {
			s.enter(revocation, lost, f, now)
			s.revoked = f.held
			return revokeToken, nil
		}
		return nothing, tooLong(after, freshWithin, "the token was not renewed on schedule after the outage")
	case lost:
		if f.held > s.revoked {
			s.enter(summary, ending, f, now)
			return nothing, nil
		}
		return nothing, tooLong(after, replaceIn, "the revoked token was not replaced at every reader")
	case ending:
		if after >= showEnd {
			s.enter(summary, over, f, now)
			return finish, nil
		}
	case over:
	}
	return nothing, nil
}

// renewed is how many renewals of the second stage all readers have.
func (s *story) renewed(f facts) int {
	if s.step < renewing || f.held < s.first {
		return 0
	}
	return min(int(f.held-s.first), s.renewals)
}

// headline says in a sentence what is going on.
func (s *story) headline() string {
	switch s.step {
	case begin, publishing:
		return "A token is minted and tried on Tracker before anyone sees it."
	case reading, renewing:
		return fmt.Sprintf("Tokens live %s here, renewed every %s while four readers look on.", spoken(tokenLifetime), spoken(refreshEvery))
	case calm, down:
		return "IAM refuses every call. The token at hand goes on serving the readers."
	case recovering:
		return "IAM is back: the next attempt renews the token."
	case ripening:
		return "Next: a token dies young. We wait for a fresh one to revoke."
	case lost:
		return "The token was revoked. The bot's 401 tells the daemon."
	}
	return "All readers have a working token again."
}

func tooLong(after, limit time.Duration, what string) error {
	if after < limit {
		return nil
	}
	return fmt.Errorf("%s within %s", what, spoken(limit))
}

// spoken writes a duration in seconds, as people say it.
func spoken(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
