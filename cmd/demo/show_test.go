package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestTheScreenHidesTheCursorAndGivesItBack(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &screen{out: &out, palette: paletteFor(""), size: func() (int, int) { return 80, 24 }}
	v := views()["renew"]
	s.frame(v)
	s.frame(v)
	if got := out.String(); strings.Count(got, hideCursor) != 1 || strings.Contains(got, showCursor) {
		t.Errorf("the cursor is not hidden once: %q", got)
	}
	s.end(v, []line{{{plain, "the last word"}}})
	if got := out.String(); !strings.Contains(got, showCursor+"the last word") {
		t.Errorf("it ends with %q", got[len(got)-100:])
	}
}

func TestTheScreenIsDrawnInPlaceAndClearedWhenItsSizeChanges(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	width := 80
	s := &screen{out: &out, size: func() (int, int) { return width, 24 }}
	s.frame(views()["renew"])
	out.Reset()
	s.frame(views()["renew"])
	same := out.String()
	if !strings.HasPrefix(same, beginUpdate+home) || strings.HasPrefix(same, beginUpdate+home+clearBelow) || strings.Count(same, clearLine) != len(picture(views()["renew"], 80, 24)) {
		t.Errorf("%q", same)
	}
	out.Reset()
	width = 70
	s.frame(views()["renew"])
	if !strings.HasPrefix(out.String(), beginUpdate+home+clearBelow) {
		t.Errorf("not cleared: %q", out.String())
	}
}

func TestInAPipeEveryPieceOfNewsIsOnePlainLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLines(&out)
	v := view{stage: prove, headline: "It begins.", journal: []news{{time.Second, "daemon", good, "published"}}}
	l.frame(v)
	l.frame(v)
	v.stage, v.headline, v.elapsed = renew, "It goes on.", 2*time.Second
	v.journal = append(v.journal, news{1900 * time.Millisecond, "cloud", bad, "down"})
	l.frame(v)
	l.end(v, []line{{{fine, " ✓ "}, {strong, "well"}}})
	want := `  1.0 s  daemon  published
  0.0 s  1/5 mint and prove: It begins.
  1.9 s  cloud   down
  2.0 s  2/5 renew: It goes on.
 ✓ well
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestADumbTerminalGetsPlainLines(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]bool{"": false, "dumb": false, "xterm-256color": true, "linux": true} {
		if terminalDraws(kind) != want {
			t.Errorf("%q: not %v", kind, want)
		}
	}
}
