package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// views are moments of the story.
func views() map[string]view {
	journal := []news{
		{300 * time.Millisecond, "cloud", neutral, "a stand-in runs on loopback: IAM, Tracker and the rest"},
		{500 * time.Millisecond, "daemon", good, "published: version 1, accepted"},
	}
	for n := range 5 {
		at := time.Duration(7*n+2) * time.Second
		journal = append(journal, news{at, "daemon", good, fmt.Sprintf("renewed: version %d, accepted; the old had 13.0 s left", n+2)})
	}
	var c counts
	for r := range readers {
		c.readers[r] = count{reads: 1000 / (int(r) + 1), version: 4}
	}
	c.uses = 131
	base := view{
		elapsed: 23400 * time.Millisecond, stage: renew, renewed: 2, renewals: 3, headline: "Four readers look on.",
		version: 4, state: "fresh", verdict: "accepted", left: 15500 * time.Millisecond, lifetime: 20 * time.Second,
		verified: 3 * time.Second, nextRefresh: 2500 * time.Millisecond, code: "schedule", reason: "scheduled refresh",
		counts: c, journal: journal,
	}
	start := view{
		stage: prove, renewals: 3, headline: "A token is minted.", lifetime: 20 * time.Second, verified: -1, nextRefresh: -1,
	}
	down := base
	down.stage, down.renewed, down.headline = outage, 3, "IAM refuses every call."
	down.left, down.code, down.failures = 6*time.Second, "retry", 2
	down.nextRefresh, down.down, down.refused = 1200*time.Millisecond, 8500*time.Millisecond, 2
	down.journal = append(journal[:len(journal):len(journal)], news{22 * time.Second, "daemon", warning, "attempt 2 to renew fails, the next is in 1.2 s; 6 s left"})
	dead := base
	dead.stage, dead.renewed, dead.headline = revocation, 3, "The token was revoked."
	dead.state, dead.verdict, dead.code, dead.revoked = "revoked", "rejected: token", "revoked", 4
	dead.counts.readers[fileReader].judged[revoked] = 271
	dead.counts.readers[socketReader].withheld = 12
	dead.counts.readers[metadataReader].without = 3
	dead.counts.readers[metadataReader].judged[expired] = 2
	dead.counts.refusals = 1
	last := base
	last.stage, last.renewed, last.finished, last.headline = summary, 3, true, "All readers have a working token again."
	last.replaced = 5400 * time.Millisecond
	return map[string]view{"start": start, "renew": base, "outage": down, "revoked": dead, "end": last}
}

// drawn is the picture as plain text.
func drawn(v view, width, height int) string {
	var b strings.Builder
	for _, l := range picture(v, width, height) {
		b.WriteString(l.text() + "\n")
	}
	return b.String()
}

func TestThePictureIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	for name, v := range views() {
		for _, size := range [][2]int{{80, 24}, {120, 30}} {
			file := filepath.Join("testdata", fmt.Sprintf("%s-%d.txt", name, size[0]))
			got := drawn(v, size[0], size[1])
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is not what is drawn (UPDATE_GOLDEN=1 writes it):\n%s", file, got)
			}
		}
	}
}

func TestThePictureFitsIntoEveryTerminal(t *testing.T) {
	t.Parallel()
	for name, v := range views() {
		for width := 1; width < 200; width += 3 {
			for _, height := range []int{1, 4, 5, 12, 22, 23, 24, 60} {
				p := picture(v, width, height)
				if len(p) > max(height, minHeight) {
					t.Fatalf("%s has %d lines at %d×%d", name, len(p), width, height)
				}
				for _, l := range p {
					if n := utf8.RuneCountInString(l.text()); n > max(width, minWidth) {
						t.Fatalf("%s at %d×%d: a line takes %d cells: %s", name, width, height, n, l.text())
					}
				}
			}
		}
	}
}

func TestNothingIsCutOffAt80Columns(t *testing.T) {
	t.Parallel()
	for name, v := range views() {
		if text := drawn(v, 80, 24); strings.Contains(text, "…") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

func TestTheBarIsAsLongAsTheLifeThatIsLeft(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		left time.Duration
		want string
	}{
		{0, ""},
		{time.Second / 2, "▎"},
		{10 * time.Second, "█████"},
		{19 * time.Second, "█████████▌"},
		{20 * time.Second, "██████████"},
		{25 * time.Second, "██████████"},
	} {
		if got, _ := bar(c.left, 20*time.Second, 10); got != c.want {
			t.Errorf("%s: %q, want %q", c.left, got, c.want)
		}
	}
}

func TestWordsOfOthersCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	n := news{0, "daemon", bad, "evil\x1b[2J\r\nline\u202e\xff"}
	if got := n.draw().text(); got != "  0.0 s  daemon  evil[2J line" {
		t.Errorf("%q", got)
	}
}

func TestNoColorLeavesNoEscapeCode(t *testing.T) {
	t.Parallel()
	l := line{{strong, "a"}, {alarm, "b"}}
	if got := paletteFor("1").paint(l); got != "ab" {
		t.Errorf("%q", got)
	}
	if got := paletteFor("").paint(l); got != "\x1b[1ma\x1b[0m\x1b[31mb\x1b[0m" {
		t.Errorf("%q", got)
	}
}
