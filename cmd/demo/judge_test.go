package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFateIsWhatTheCloudSays(t *testing.T) {
	t.Parallel()
	const mine = "revoked by us"
	for name, c := range map[string]struct {
		value  string
		says   answer
		issued bool
		err    error
		want   fate
	}{
		"works":                        {"a", accepted, true, nil, alive},
		"issued and refused":           {"a", rejected, true, nil, expired},
		"never issued":                 {"half", rejected, false, nil, torn},
		"empty":                        {"", accepted, false, nil, torn},
		"the one that was revoked":     {mine, rejected, true, nil, revoked},
		"revoked, but Tracker is mute": {mine, noAnswer, true, nil, unclear},
		"Tracker is mute":              {"a", noAnswer, true, nil, unclear},
		"nobody answers":               {"a", rejected, false, errors.New("gone"), unclear},
		"revoked and accepted":         {mine, accepted, true, nil, alive},
	} {
		l := newLedger(time.Now)
		l.revoking(mine)
		j := &judge{l, func(context.Context, string) answer { return c.says }, func(context.Context, string) (bool, error) { return c.issued, c.err }}
		if got := j.fateOf(t.Context(), c.value); got != c.want {
			t.Errorf("%s: fate %d, want %d", name, got, c.want)
		}
	}
}

func TestReadsAreJudgedAFewTimesASecondAndAllInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(time.Now)
		trials := 0
		try := func(ctx context.Context, _ string) answer {
			trials++
			if ctx.Err() != nil {
				return noAnswer
			}
			return accepted
		}
		j := &judge{ledger: l, try: try}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go every(ctx, time.Millisecond, func() { l.read(fileReader, "a") })
		j.run(ctx)
		synctest.Wait()
		if most := int(10*time.Second/judgeEvery) + 1; trials > most || trials < most-3 {
			t.Errorf("%d trials in 10 s, want about %d", trials, most)
		}
		j.flush(ctx)
		if c := l.counts().total(); c.judged[alive] != c.reads || c.reads < 9_000 {
			t.Errorf("%+v", c)
		}
	})
}
