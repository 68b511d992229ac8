package main

import (
	"sync"
	"time"
)

// reader is one of those who read the token.
type reader uint8

const (
	fileReader reader = iota
	socketReader
	metadataReader
	botReader
	readers // how many there are
)

func (r reader) String() string {
	return [...]string{"file", "socket", "metadata", "bot"}[r]
}

// fate is what became of a read, judged at the cloud after it.
type fate uint8

const (
	alive   fate = iota // the value works
	expired             // it is past its end
	revoked             // it is the one that the demo revoked
	torn                // the cloud never issued it: half a token, or rubbish
	unclear             // the cloud did not say
	fates               // how many there are
)

// tally is what one reader saw.
type tally struct {
	reads    int
	judged   [fates]int
	withheld int // answers 503 while the revoked token had no replacement yet
	without  int // other reads that gave no value
	failure  string
	value    string    // the last one; secret
	firstAt  time.Time // when that was first read
}

// ledger keeps the reads until they are judged, and what was found. It may be
// used concurrently. Values are kept as keys and never shown.
//
// A read is judged by a try of its value that begins after the read: if the
// value works then, it worked when it was read. An expired one may have worked
// still, and is counted against us all the same.
type ledger struct {
	now func() time.Time
	// pending has room for one and is filled when there is something to judge.
	pending chan struct{}

	mu       sync.Mutex
	tallies  [readers]tally
	waiting  map[string]*[readers]int
	versions map[string]uint64
	revoked  string
	uses     int // of the bot, that were accepted
	refusals int // of the bot, that were rejected
}

func newLedger(now func() time.Time) *ledger {
	return &ledger{
		now: now, pending: make(chan struct{}, 1),
		waiting: map[string]*[readers]int{}, versions: map[string]uint64{},
	}
}

// read notes that r read value.
func (l *ledger) read(r reader, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.tallies[r]
	t.reads++
	if t.value != value {
		t.value, t.firstAt = value, l.now()
	}
	w := l.waiting[value]
	if w == nil {
		w = new([readers]int)
		l.waiting[value] = w
	}
	w[r]++
	select {
	case l.pending <- struct{}{}:
	default:
	}
}

// none notes that r got no value, and why. While the value that it read last
// is the revoked one, a 503 is as it should be.
func (l *ledger) none(r reader, unavailable bool, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.tallies[r]
	t.reads++
	if unavailable && l.revoked != "" && t.value == l.revoked {
		t.withheld++
		return
	}
	t.without++
	t.failure = why
}

// used notes what Tracker said to the bot at work.
func (l *ledger) used(f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch f {
	case alive:
		l.uses++
	case revoked:
		l.refusals++
	default:
		l.tallies[botReader].judged[f]++
	}
}

// number notes which version a value is.
func (l *ledger) number(value string, version uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.versions[value] = version
}

// batch is reads of one value that wait for its trial.
type batch struct {
	value string
	reads [readers]int
}

// due takes out all reads that wait.
func (l *ledger) due() []batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due []batch
	for value, reads := range l.waiting {
		due = append(due, batch{value, *reads})
	}
	clear(l.waiting)
	return due
}

// judge notes what became of a batch.
func (l *ledger) judge(b batch, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r, n := range b.reads {
		l.tallies[r].judged[f] += n
	}
}

// revoking says that value is about to be revoked.
func (l *ledger) revoking(value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked = value
}

// isRevoked tells whether value was revoked.
func (l *ledger) isRevoked(value string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return value == l.revoked
}

// valueOf returns the value of a version, if a reader has told which it is.
func (l *ledger) valueOf(version uint64) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for value, n := range l.versions {
		if n == version {
			return value, true
		}
	}
	return "", false
}

// holds is what the readers have: the lowest version that one of them read
// last, 0 while one has none that is known, and when the last of them first
// read its own.
func (l *ledger) holds() (version uint64, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r, t := range l.tallies {
		n := l.versions[t.value]
		if r == 0 || n < version {
			version = n
		}
		if t.firstAt.After(since) {
			since = t.firstAt
		}
	}
	return version, since
}

// count is a tally without the secret.
type count struct {
	reads, withheld, without int
	judged                   [fates]int
	version                  uint64
	failure                  string
}

// counts is all that the ledger knows, without secrets.
type counts struct {
	readers        [readers]count
	uses, refusals int
}

func (l *ledger) counts() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := counts{uses: l.uses, refusals: l.refusals}
	for r, t := range l.tallies {
		c.readers[r] = count{t.reads, t.withheld, t.without, t.judged, l.versions[t.value], t.failure}
	}
	return c
}

// total adds up all readers.
func (c counts) total() count {
	var sum count
	for _, r := range c.readers {
		sum.reads += r.reads
		sum.withheld += r.withheld
		sum.without += r.without
		for f, n := range r.judged {
			sum.judged[f] += n
		}
	}
	return sum
}
