package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one mistake in a configuration.
type Error struct {
	// File is the configuration's name; for a mistake in a flag or variable,
	// its name ("--file", "ITR_FILE").
	File string
	// Line and Col count from 1, Col in characters; both are 0 when the
	// mistake has no place in the text.
	Line, Col int
	// Problem says which token and option it is about, what is wrong and what
	// would be right. It holds no secrets.
	Problem string
	// Source is the offending line, secrets masked; empty without a place.
	Source string

	cause error
	bare  string // Problem without the token and the option
}

// The line that is shown is cut to this many characters around the mistake.
const shownWidth = 160

// Error returns FILE:LINE:COL: problem, and below it the line with a caret.
func (e Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Problem)
	}
	head := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Problem)
	if e.Source == "" {
		return head
	}
	line, caret := window([]rune(e.Source), e.Col-1)
	number := fmt.Sprintf("%5d", e.Line)
	return fmt.Sprintf("%s\n%s | %s\n%s | %s^", head,
		number, line, strings.Repeat(" ", len(number)), strings.Repeat(" ", caret))
}

// Unwrap returns the operating system's error when the file could not be read.
func (e Error) Unwrap() error { return e.cause }

// window cuts what does not fit around position at, and returns the position
// within what is left.
func window(line []rune, at int) (string, int) {
	at = min(max(at, 0), len(line))
	const more = "…"
	if len(line) > shownWidth {
		from := max(0, min(at-shownWidth/2, len(line)-shownWidth))
		to := from + shownWidth
		cut := string(line[from:to])
		at -= from
		if to < len(line) {
			cut += more
		}
		if from > 0 {
			cut = more + cut
			at++
		}
		return cut, at
	}
	return string(line), at
}

// Errors are all mistakes that were found, sorted by their place. Every error
// that [Load], [Parse] and [FromFlags] return is of this type.
type Errors []Error

// The first mistakes are shown, the others counted.
const shownErrors = 20

// Error returns the mistakes separated by blank lines.
func (e Errors) Error() string {
	var b strings.Builder
	for i, one := range e {
		if i == shownErrors {
			fmt.Fprintf(&b, "\n\n… and %d more", len(e)-i)
			break
		}
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(one.Error())
	}
	return b.String()
}

// Unwrap returns the mistakes one by one.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i := range e {
		all[i] = e[i]
	}
	return all
}

// sorted orders by place and drops repetitions: a mistake in an anchor shows
// up again with each of its aliases.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	type mistake struct {
		file      string
		line, col int
		bare      string
	}
	seen := map[mistake]bool{}
	return slices.DeleteFunc(e, func(one Error) bool {
		m := mistake{one.File, one.Line, one.Col, one.bare}
		again := seen[m]
		seen[m] = true
		return again
	})
}
