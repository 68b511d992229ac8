package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is what a piece of text means; a palette says how that looks.
type style uint8

const (
	plain style = iota
	strong
	faint
	fine    // as it should be
	caution // not quite
	alarm   // not at all
	here    // where we are
	styles  // how many there are
)

// piece is text in one style.
type piece struct {
	style style
	text  string
}

// line is a line of the picture. Every character of it takes one cell.
type line []piece

func (l line) width() int {
	n := 0
	for _, p := range l {
		n += utf8.RuneCountInString(p.text)
	}
	return n
}

// text is the line without its styles.
func (l line) text() string {
	var b strings.Builder
	for _, p := range l {
		b.WriteString(p.text)
	}
	return strings.TrimRight(b.String(), " ")
}

// fit cuts the line to at most width cells.
func (l line) fit(width int) line {
	if l.width() <= width {
		return l
	}
	var cut line
	room := max(width-1, 0)
	for _, p := range l {
		runes := []rune(p.text)
		if len(runes) > room {
			return append(cut, piece{p.style, string(runes[:room]) + "…"})
		}
		cut = append(cut, p)
		room -= len(runes)
	}
	return cut
}

// spread puts a line at the left and another at the right end, if there is room.
func spread(left, right line, width int) line {
	if gap := width - left.width() - right.width(); gap > 0 {
		left = append(left, piece{plain, strings.Repeat(" ", gap)})
		return append(left, right...)
	}
	return left
}

// clean makes other programs' words fit for one line of a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
}

// palette holds the escape code of each style.
type palette [styles]string

// paletteFor returns the colours, or none if the variable NO_COLOR is not
// empty (https://no-color.org).
func paletteFor(noColor string) palette {
	if noColor != "" {
		return palette{}
	}
	return palette{strong: "\x1b[1m", faint: "\x1b[2m", fine: "\x1b[32m", caution: "\x1b[33m", alarm: "\x1b[31m", here: "\x1b[1;36m"}
}

// paint is the line with the escape codes of its styles.
func (p palette) paint(l line) string {
	var b strings.Builder
	for _, piece := range l {
		code := p[piece.style]
		if code == "" {
			b.WriteString(piece.text)
			continue
		}
		b.WriteString(code)
		b.WriteString(piece.text)
		b.WriteString("\x1b[0m")
	}
	return b.String()
}
