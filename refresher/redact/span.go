package redact

import (
	"cmp"
	"slices"
	"strings"
)

// span is a piece of a text: s[from:to].
type span struct{ from, to int }

// replace puts one marker in place of each piece that spans cover. Pieces that
// touch or overlap become one.
func replace(s string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	b.Grow(len(s))
	done := 0
	for i := 0; i < len(spans); {
		from, to := spans[i].from, spans[i].to
		for i++; i < len(spans) && spans[i].from <= to; i++ {
			to = max(to, spans[i].to)
		}
		b.WriteString(s[done:from])
		b.WriteString(Marker)
		done = to
	}
	b.WriteString(s[done:])
	return b.String()
}
