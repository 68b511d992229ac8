package main

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// workEvery is how often the bot uses its token.
const workEvery = 250 * time.Millisecond

// bot is a program that works with the token: it keeps it, is told by the
// socket when there is another, calls Tracker with it, and reports a 401.
type bot struct {
	ledger *ledger
	ask    *asker
	judge  *judge
	// onRejected is told which version was rejected, and whether the daemon
	// took the report.
	onRejected func(version uint64, err error)

	mu    sync.Mutex
	value string
	etag  string
}

func (b *bot) current() (value, etag string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.value, b.etag
}

// listen keeps the token up to date.
func (b *bot) listen(ctx context.Context) {
	for ctx.Err() == nil {
		_, etag := b.current()
		r, err := b.ask.news(ctx, etag)
		if err == nil && r.code == http.StatusNotModified {
			continue
		}
		if note(ctx, b.ledger, botReader, r, err) {
			b.ledger.number(string(r.body), versionOf(r.etag))
			b.mu.Lock()
			b.value, b.etag = string(r.body), r.etag
			b.mu.Unlock()
			continue
		}
		pause(ctx, workEvery)
	}
}

// work uses the token until Tracker rejects it, and again once there is
// another.
func (b *bot) work(ctx context.Context) {
	bad := ""
	every(ctx, workEvery, func() {
		value, etag := b.current()
		if value == "" || value == bad {
			return
		}
		f := b.judge.fateOf(ctx, value)
		b.ledger.used(f)
		if f == alive || f == unclear {
			return
		}
		bad = value
		b.onRejected(versionOf(etag), b.ask.report(ctx, etag))
	})
}

// pause waits, unless ctx is done before.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
