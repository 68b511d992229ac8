package main

import (
	"path/filepath"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

func TestTheStandInCloudTellsTheFates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	p := &place{dir: dir}
	at, err := p.readEndpoints()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCloud(t.Context(), at, filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	mint := func(lifetime time.Duration) string {
		value, _, err := e.Mint(emulator.BotAccount, lifetime)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	works, old, lost := mint(0), mint(-time.Second), mint(0)
	l := newLedger(time.Now)
	j := &judge{l, c.try, c.issued}
	l.revoking(lost)
	if err := c.revoke(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]fate{works: alive, old: expired, lost: revoked, works[:len(works)/2]: torn, works + "\n": torn, "": torn} {
		if got := j.fateOf(t.Context(), value); got != want {
			t.Errorf("a value of %d bytes: fate %d, want %d", len(value), got, want)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := j.fateOf(t.Context(), works); got != unclear {
		t.Errorf("fate %d without a cloud, want unclear", got)
	}
}

func TestIAMGoesDownAndComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	at, err := (&place{dir: dir}).readEndpoints()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCloud(t.Context(), at, filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	faults := func() int {
		var list []any
		if err := c.order(t.Context(), "GET", "/faults", nil, &list); err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if err := c.breakIAM(t.Context()); err != nil || faults() != 1 {
		t.Errorf("%v, %d faults", err, faults())
	}
	if err := c.mendIAM(t.Context()); err != nil || faults() != 0 {
		t.Errorf("%v, %d faults", err, faults())
	}
}
