package main

import (
	"sync"
	"time"
)

// board is what is known of the run. It may be used concurrently.
type board struct {
	start  time.Time
	ledger *ledger

	mu       sync.Mutex
	journal  []news
	narrator narrator
	status   tokenStatus
	stage    stage
	headline string
	renewed  int
	renewals int

	outageAt, outageEnd    time.Time
	revokedAt, noticedAt   time.Time
	replacedAt             time.Time
	revokedVersion, newest uint64
	refused                int
	finished               bool
}

func newBoard(start time.Time, renewals int) *board {
	return &board{start: start, ledger: newLedger(time.Now), renewals: renewals, headline: (&story{}).headline()}
}

// tell adds a piece of news.
func (b *board) tell(who string, t tone, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(who, t, text)
}

func (b *board) add(who string, t tone, text string) {
	b.journal = append(b.journal, news{time.Since(b.start), who, t, text})
}

// heard takes in a line of the daemon's log.
func (b *board) heard(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text, t, ok := b.narrator.tell(line); ok {
		b.add("daemon", t, text)
	}
}

// follow takes in how the token is and where the story has got to, and tells
// whether that is another stage.
func (b *board) follow(f facts, s *story) (another bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	another = b.stage != s.stage
	b.status, b.stage, b.headline = f.status, s.stage, s.headline()
	b.newest = max(b.newest, f.status.Version)
	b.refused = max(b.refused, f.status.Failures)
	if s.stage == renew {
		b.renewed = s.renewed(f)
	} else if s.stage > renew {
		b.renewed = b.renewals
	}
	return another
}

// went notes that the story ordered something, at this time.
func (b *board) went(o order, version uint64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch o {
	case startOutage:
		b.outageAt = at
	case endOutage:
		b.outageEnd = at
	case revokeToken:
		b.revokedAt, b.revokedVersion = at, version
	case finish:
		b.finished = true
	}
}

// noticed notes that the bot had a 401.
func (b *board) noticed(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.noticedAt.IsZero() {
		b.noticedAt = at
	}
}

// replaced notes when the last reader had another token than the revoked one.
// The first time, it returns how long that took.
func (b *board) replaced(at time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.replacedAt.IsZero() {
		return 0
	}
	b.replacedAt = at
	return at.Sub(b.revokedAt)
}

// result is what the board knows of the figures.
func (b *board) result() result {
	c := b.ledger.counts()
	b.mu.Lock()
	defer b.mu.Unlock()
	r := result{
		renewals: max(int(b.newest)-1, 0), wanted: b.renewals, counts: c,
		outage: b.outageEnd.Sub(b.outageAt), refused: b.refused, leastLeft: b.narrator.leastLeft,
		replaced: b.replacedAt.Sub(b.revokedAt),
	}
	if !b.noticedAt.IsZero() {
		r.noticed = b.noticedAt.Sub(b.revokedAt)
	}
	return r
}

// view is what is shown: a copy of everything as of one moment.
type view struct {
	elapsed  time.Duration
	stage    stage
	renewed  int
	renewals int
	headline string

	version      uint64 // 0: none yet
	state        string
	verdict      string
	left         time.Duration
	lifetime     time.Duration
	verified     time.Duration // ago; below 0: never
	nextRefresh  time.Duration // in; below 0: not planned
	code, reason string
	failures     int

	down     time.Duration // IAM, for how long; 0: it is up
	refused  int           // calls that it refused since
	revoked  uint64        // version that was revoked and has no replacement yet
	replaced time.Duration // seconds from revocation to replacement; 0: not yet

	counts   counts
	journal  []news
	finished bool
}

// view copies the board as of now.
func (b *board) view(now time.Time) view {
	c := b.ledger.counts()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.status
	v := view{
		elapsed: now.Sub(b.start), stage: b.stage, renewed: b.renewed, renewals: b.renewals, headline: b.headline,
		version: s.Version, state: s.State, verdict: s.Verdict, lifetime: tokenLifetime, verified: -1, nextRefresh: -1,
		code: s.Code, reason: s.Reason, failures: s.Failures,
		counts: c, journal: b.journal, finished: b.finished,
	}
	// The log is exact, the status is in whole seconds.
	switch {
	case s.Version > 0 && s.Version == b.narrator.version:
		v.left = b.narrator.expires.Sub(now)
	case s.ExpiresAt != nil:
		v.left = s.ExpiresAt.Sub(now)
	}
	v.left = max(v.left, 0)
	if s.VerifiedAt != nil {
		v.verified = max(now.Sub(*s.VerifiedAt), 0)
	}
	if s.NextRefresh != nil {
		// In the middle of the second that the status names.
		v.nextRefresh = max(s.NextRefresh.Add(time.Second/2).Sub(now), 0)
	}
	if !b.outageAt.IsZero() && b.outageEnd.IsZero() {
		v.down, v.refused = max(now.Sub(b.outageAt), 1), s.Failures
	}
	switch {
	case !b.replacedAt.IsZero():
		v.replaced = b.replacedAt.Sub(b.revokedAt)
	case !b.revokedAt.IsZero():
		v.revoked = b.revokedVersion
	}
	return v
}
