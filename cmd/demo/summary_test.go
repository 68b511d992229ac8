package main

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func goodResult() result {
	r := result{
		took: 38 * time.Second, renewals: 6, wanted: 3, mints: 9,
		probes: map[string]int{"accepted": 15, "rejected: token": 2},
		outage: 8 * time.Second, refused: 2, leastLeft: 9 * time.Second,
		noticed: 200 * time.Millisecond, replaced: 5400 * time.Millisecond,
	}
	for who := range readers {
		r.counts.readers[who] = count{reads: 2500 / (1 + int(who)*3)}
	}
	r.counts.uses, r.counts.refusals = 140, 1
	return r
}

func text(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text() + "\n")
	}
	return b.String()
}

func TestTheSummaryOfAGoodRunHasTheFiguresAndFits(t *testing.T) {
	t.Parallel()
	lines, ok := goodResult().closing()
	got := text(lines)
	for _, want := range []string{"renewals                   6", "15 accepted, 2 rejected", "reads of an expired token  0\n", "5.4 s until", "All as it should be"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	for _, l := range lines {
		if utf8.RuneCountInString(l.text()) > 80 {
			t.Errorf("longer than 80: %s", l.text())
		}
	}
	if !ok || strings.Contains(got, "✗") {
		t.Errorf("not good:\n%s", got)
	}
}

func TestEachPromiseThatWasBrokenFailsTheDemo(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*result){
		"renewals":                   func(r *result) { r.renewals = 2 },
		"verdicts of Tracker":        func(r *result) { r.probes = nil },
		"reads ":                     func(r *result) { r.counts = counts{uses: 1, refusals: 1} },
		"reads of an expired token":  func(r *result) { r.counts.readers[fileReader].judged[expired] = 1 },
		"reads of half a token":      func(r *result) { r.counts.readers[fileReader].judged[torn] = 1 },
		"reads without a token":      func(r *result) { r.counts.readers[botReader].without = 1 },
		"reads not tried at Tracker": func(r *result) { r.counts.readers[socketReader].judged[unclear] = 1 },
		"IAM outage":                 func(r *result) { r.refused = 0 },
		"revocation to notice":       func(r *result) { r.noticed = 0 },
		"revocation to replacement":  func(r *result) { r.replaced = 0 },
	} {
		r := goodResult()
		spoil(&r)
		lines, ok := r.closing()
		if got := text(lines); ok || strings.Count(got, "✗") != 2 || !strings.Contains(got, " ✗ "+name) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestAFailureShowsTheLastWordsOfTheProcesses(t *testing.T) {
	t.Parallel()
	c := &child{name: "the daemon", tail: &tail{}}
	for range tailLines + 5 {
		c.tail.add("early")
	}
	c.tail.add("the\x1b[1m end")
	got := text(apology(errors.New("it broke"), []*child{c, nil, {name: "the mute", tail: &tail{}}}))
	if !strings.Contains(got, "The demo failed: it broke\n") || !strings.Contains(got, "the[1m end\n") ||
		strings.Count(got, "early") != tailLines-1 || strings.Contains(got, "mute") {
		t.Errorf("got:\n%s", got)
	}
}
