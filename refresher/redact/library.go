package redact

import (
	"io"
	"strings"
)

// Library returns where the log of the standard library goes: tell is called
// for each message, without what that quotes. net/http quotes whatever a server
// sent unasked, which is a piece of a response's body, and may be our own
// request, header and all, when a gateway shows it on its page.
//
// What tell does with a message is to go through a [Filter] as well.
func Library(tell func(message string)) io.Writer { return library(tell) }

type library func(message string)

// Write implements [io.Writer] for package log, which writes one message at a
// time.
func (l library) Write(p []byte) (int, error) {
	l(withoutQuoted(strings.TrimSpace(string(p))))
	return len(p), nil
}

// quotes are those of %q and %#q.
const quotes = "\"`"

// withoutQuoted leaves out all between the first quote and the last: what stands
// in quotes may hold some itself, and where one ends is not for us to find out.
func withoutQuoted(s string) string {
	from, to := strings.IndexAny(s, quotes), strings.LastIndexAny(s, quotes)
	if from < 0 {
		return s
	}
	if from == to { // it was cut short
		to = len(s) - 1
	}
	return s[:from] + Marker + s[to+1:]
}
