package main

import (
	"testing"
	"time"
)

// settle judges everything that waits.
func settle(l *ledger, f fate) {
	for _, b := range l.due() {
		l.judge(b, f)
	}
}

func TestEveryReadIsCountedAsWhatItsTrialFound(t *testing.T) {
	t.Parallel()
	for f := range fates {
		l := newLedger(time.Now)
		l.read(fileReader, "a")
		l.read(fileReader, "a")
		l.read(socketReader, "a")
		settle(l, f)
		c := l.counts()
		if c.readers[fileReader].judged[f] != 2 || c.readers[socketReader].judged[f] != 1 || c.total().judged[f] != 3 || c.total().reads != 3 {
			t.Errorf("fate %d: %+v", f, c)
		}
		if len(l.due()) != 0 {
			t.Error("a read is judged twice")
		}
	}
}

func TestAReadAfterATrialWaitsForTheNext(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now)
	l.read(fileReader, "a")
	due := l.due()
	l.read(fileReader, "a") // while the trial goes on
	l.judge(due[0], alive)
	settle(l, expired)
	if c := l.counts().total(); c.judged[alive] != 1 || c.judged[expired] != 1 {
		t.Errorf("%+v", c)
	}
}

func TestA503IsForgivenOnlyWhileTheRevokedTokenHasNoReplacement(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now)
	l.none(socketReader, true, "the daemon answers 503") // nobody has revoked anything
	l.read(socketReader, "a")
	l.none(socketReader, true, "the daemon answers 503")
	l.revoking("a")
	l.none(socketReader, true, "the daemon answers 503")
	l.none(socketReader, false, "no answer")
	l.read(socketReader, "b")
	l.none(socketReader, true, "the daemon answers 503")
	c := l.counts().readers[socketReader]
	if c.withheld != 1 || c.without != 4 || c.reads != 7 || c.failure != "the daemon answers 503" {
		t.Errorf("%+v", c)
	}
}

func TestReadersHoldTheOldestVersionThatOneOfThemReadLast(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	l := newLedger(func() time.Time { return now })
	l.number("a", 1)
	l.number("b", 2)
	if n, _ := l.holds(); n != 0 {
		t.Errorf("holds %d before anybody read", n)
	}
	for r := range readers {
		l.read(r, "a")
	}
	if n, since := l.holds(); n != 1 || !since.Equal(now) {
		t.Errorf("holds %d since %s", n, since)
	}
	for r := range readers {
		if n, _ := l.holds(); n != 1 {
			t.Errorf("holds %d although %s has version 1", n, r)
		}
		now = now.Add(time.Second)
		l.read(r, "b")
	}
	last := now
	now = now.Add(time.Second)
	l.read(fileReader, "b") // not the first time
	if n, since := l.holds(); n != 2 || !since.Equal(last) {
		t.Errorf("holds %d since %s, want 2 since %s", n, since, last)
	}
	l.read(fileReader, "half")
	if n, _ := l.holds(); n != 0 {
		t.Error("a value that is no version is held as one")
	}
}

func TestTheBotsCallsCountAgainstUsUnlessTheTokenWasRevoked(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now)
	for _, f := range []fate{alive, alive, revoked, expired} {
		l.used(f)
	}
	if c := l.counts(); c.uses != 2 || c.refusals != 1 || c.total().judged[expired] != 1 {
		t.Errorf("%+v", c)
	}
}
