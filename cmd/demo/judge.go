package main

import (
	"context"
	"time"
)

// judgeEvery is how often a value that is being read is tried at the cloud.
const judgeEvery = 50 * time.Millisecond

// judge tries what the readers read.
type judge struct {
	ledger *ledger
	try    func(context.Context, string) answer
	issued func(context.Context, string) (bool, error)
}

// run judges until ctx is done. What is left then is for flush.
func (j *judge) run(ctx context.Context) {
	pause := time.NewTicker(judgeEvery)
	defer pause.Stop()
	for {
		select {
		case <-j.ledger.pending:
		case <-ctx.Done():
			return
		}
		j.flush(ctx)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

// flush judges all that waits.
func (j *judge) flush(ctx context.Context) {
	for _, b := range j.ledger.due() {
		j.ledger.judge(b, j.fateOf(ctx, b.value))
	}
}

// fateOf says what became of a value that was read before.
func (j *judge) fateOf(ctx context.Context, value string) fate {
	a := noAnswer
	if value != "" {
		// Cancelling must not leave reads unjudged.
		a = j.try(context.WithoutCancel(ctx), value)
	}
	if a == accepted {
		return alive
	}
	if j.ledger.isRevoked(value) && a == rejected {
		return revoked
	}
	issued, err := j.issued(context.WithoutCancel(ctx), value)
	switch {
	case err != nil:
		return unclear
	case !issued:
		return torn
	case a == rejected:
		return expired
	}
	return unclear
}
