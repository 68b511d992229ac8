package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// display shows the run to somebody.
type display interface {
	// frame shows the view as it is now.
	frame(view)
	// end shows the last view, and leaves the terminal as it was. Then the
	// closing lines follow.
	end(v view, closing []line)
}

// framesEvery is how often the picture is drawn.
const framesEvery = 125 * time.Millisecond

// show draws until ctx is done.
func show(ctx context.Context, d display, b *board) {
	every(ctx, framesEvery, func() { d.frame(b.view(time.Now())) })
}

// lines shows the run as plain lines: what happened, once each.
type lines struct {
	out   io.Writer
	shown int
	stage stage
	begun bool
}

func newLines(out io.Writer) *lines { return &lines{out: out} }

func (l *lines) frame(v view) {
	for ; l.shown < len(v.journal); l.shown++ {
		_, _ = fmt.Fprintln(l.out, v.journal[l.shown].draw().text())
	}
	if !l.begun || v.stage != l.stage {
		l.begun, l.stage = true, v.stage
		_, _ = fmt.Fprintf(l.out, "%5.1f s  %d/%d %s: %s\n", v.elapsed.Seconds(), v.stage+1, stages, v.stage, v.headline)
	}
}

func (l *lines) end(v view, closing []line) {
	l.frame(v)
	for _, c := range closing {
		_, _ = fmt.Fprintln(l.out, c.text())
	}
}

// screen draws a picture on a terminal, in place.
type screen struct {
	out     io.Writer
	palette palette
	size    func() (width, height int)

	width, height int
	begun         bool
}

func newScreen(out *os.File, p palette) *screen {
	return &screen{out: out, palette: p, size: func() (int, int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width < 1 || height < 1 {
			return 80, 24
		}
		return width, height
	}}
}

// Escape codes. Autowrap is off while we draw, so that a terminal that has just
// become narrower does not tear lines; a frame is shown at once by terminals
// that know mode 2026, others ignore that.
const (
	hideCursor  = "\x1b[?25l\x1b[?7l"
	showCursor  = "\x1b[?7h\x1b[?25h"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	beginUpdate = "\x1b[?2026h"
	endUpdate   = "\x1b[?2026l"
)

func (s *screen) frame(v view) {
	width, height := s.size()
	var b bytes.Buffer
	b.WriteString(beginUpdate)
	if !s.begun {
		// What stands on the screen moves up and out, so that it is kept.
		b.WriteString(hideCursor + "\x1b[999;1H" + string(bytes.Repeat([]byte("\n"), height)))
	}
	b.WriteString(home)
	if s.width != width || s.height != height {
		b.WriteString(clearBelow)
	}
	s.begun, s.width, s.height = true, width, height
	for i, l := range picture(v, width, height) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(s.palette.paint(l.fit(width)))
		b.WriteString(clearLine)
	}
	b.WriteString(clearBelow + endUpdate)
	_, _ = s.out.Write(b.Bytes())
}

func (s *screen) end(v view, closing []line) {
	s.frame(v)
	var b bytes.Buffer
	b.WriteString("\r\n" + showCursor)
	for _, l := range closing {
		b.WriteString(s.palette.paint(l) + "\r\n")
	}
	_, _ = s.out.Write(b.Bytes())
}
