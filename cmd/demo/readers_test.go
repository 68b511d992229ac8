package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAReplyIsNotedAsWhatItIs(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx                      context.Context
		reply                    reply
		err                      error
		value                    bool
		reads, without, withheld int
	}{
		"a value":                  {t.Context(), reply{code: 200, body: []byte("b")}, nil, true, 2, 0, 0},
		"503 after the revocation": {t.Context(), reply{code: 503}, nil, false, 2, 0, 1},
		"404":                      {t.Context(), reply{code: 404}, nil, false, 2, 1, 0},
		"no answer":                {t.Context(), reply{}, errors.New("refused"), false, 2, 1, 0},
		"no answer at the end":     {over, reply{}, context.Canceled, false, 1, 0, 0},
	} {
		l := newLedger(time.Now)
		l.read(socketReader, "a")
		l.revoking("a")
		got := note(c.ctx, l, socketReader, c.reply, c.err)
		n := l.counts().readers[socketReader]
		if got != c.value || n.reads != c.reads || n.without != c.without || n.withheld != c.withheld {
			t.Errorf("%s: %v, %+v", name, got, n)
		}
	}
}

func TestTheFileReaderCountsAMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bot.token")
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), 5*fileEvery-1)
		defer cancel()
		readFile(ctx, l, path)
		if c := l.counts().readers[fileReader]; c.reads != 5 || c.without != 5 {
			t.Errorf("%+v", c)
		}
	})
	if err := os.WriteFile(path, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLedger(time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	readFile(ctx, l, path)
	if due := l.due(); len(due) != 1 || due[0].value != "whole" {
		t.Error("the file was not read")
	}
}
