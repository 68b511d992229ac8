package status

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"iam-token-refresher/refresher"
)

// TableOptions says what the table is written to.
type TableOptions struct {
	Color bool // it shows ANSI colours
	Width int  // in characters; 0 means 100
}

const (
	defaultWidth = 100
	minSource    = 8
	gap          = 2
)

// The columns of the table.
const (
	colName = iota
	colSource
	colState
	colVerdict
	colExpires
	colVersion
	colNext
	colSinks
	columns
)

var headings = [columns]string{"NAME", "SOURCE", "STATE", "VERDICT", "EXPIRES IN", "VERSION", "NEXT REFRESH", "SINKS"}

// Table writes a row for each token and, below it, what is wrong with it. The
// error is w's.
func Table(w io.Writer, doc Document, now time.Time, o TableOptions) error {
	if len(doc.Tokens) == 0 {
		_, err := io.WriteString(w, "no tokens configured\n")
		return err
	}
	out := bufio.NewWriter(w)
	if o.Width <= 0 {
		o.Width = defaultWidth
	}
	rows := make([][columns]string, 0, len(doc.Tokens)+1)
	rows = append(rows, headings)
	for _, t := range doc.Tokens {
		rows = append(rows, t.row(now))
	}
	widths := layout(rows, o.Width)
	for i, row := range rows {
		if i == 0 {
			writeRow(out, row, widths, func(int) string { return "" })
			continue
		}
		t := doc.Tokens[i-1]
		writeRow(out, row, widths, func(col int) string { return t.color(col, o.Color) })
		for _, trouble := range t.troubles(now) {
			writeTrouble(out, trouble, o)
		}
	}
	return out.Flush()
}

func (t Token) row(now time.Time) [columns]string {
	var r [columns]string
	r[colName] = oneLine(t.Name)
	r[colSource] = oneLine(t.Source)
	r[colState] = string(t.State)
	r[colVerdict], r[colExpires], r[colVersion], r[colNext] = "-", "-", "-", "-"
	if t.Version > 0 {
		r[colVersion] = fmt.Sprint(t.Version)
		r[colExpires] = "unknown"
		r[colVerdict] = t.Verdict.String()
		if t.Probe == "" {
			r[colVerdict] = "no probe"
		}
	}
	switch {
	case t.ExpiresAt == nil:
	case now.Before(*t.ExpiresAt):
		r[colExpires] = span(t.ExpiresAt.Sub(now))
	default:
		r[colExpires] = span(now.Sub(*t.ExpiresAt)) + " ago"
	}
	switch {
	case t.NextRefresh == nil:
	case now.Before(*t.NextRefresh):
		r[colNext] = "in " + span(t.NextRefresh.Sub(now))
	default:
		r[colNext] = "now"
	}
	r[colSinks] = fmt.Sprintf("%d/%d", t.held(), len(t.Sinks))
	if len(t.Sinks) == 0 {
		r[colSinks] = "-"
	}
	return r
}

// layout gives each column what it needs; the source gives way to the others,
// first to its kind alone, then cut, and after it the name.
func layout(rows [][columns]string, width int) (widths [columns]int) {
	measure := func() (total int) {
		widths = [columns]int{}
		for _, r := range rows {
			for i, cell := range r {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
		for _, n := range widths {
			total += n + gap
		}
		return total - gap
	}
	if measure() > width {
		for i := range rows {
			source := &rows[i][colSource]
			*source, _, _ = strings.Cut(*source, " at ")
		}
	}
	if measure() > width {
		for i := range rows {
			source := &rows[i][colSource]
			*source, _, _ = strings.Cut(*source, " ")
		}
	}
	for _, col := range [...]int{colSource, colName} {
		if over := measure() - width; over > 0 {
			room := max(widths[col]-over, minSource)
			for i := range rows {
				rows[i][col] = cut(rows[i][col], room)
			}
		}
	}
	measure()
	return widths
}

func writeRow(out *bufio.Writer, row [columns]string, widths [columns]int, color func(col int) string) {
	for col, cell := range row {
		c := color(col)
		_, _ = out.WriteString(paint(cell, c))
		if col < columns-1 {
			_, _ = out.WriteString(strings.Repeat(" ", widths[col]-utf8.RuneCountInString(cell)+gap))
		}
	}
	_ = out.WriteByte('\n')
}

func writeTrouble(out *bufio.Writer, trouble string, o TableOptions) {
	lead := "  ! "
	for _, line := range wrap(trouble, max(o.Width-len(lead), 20)) {
		c := ""
		if o.Color {
			c = yellow
		}
		_, _ = fmt.Fprintf(out, "%s\n", paint(lead+line, c))
		lead = "    "
	}
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func paint(s, color string) string {
	if color == "" {
		return s
	}
	return color + s + plain
}

// color is that of a cell: of the state, and of sinks that lag behind.
func (t Token) color(col int, on bool) string {
	switch {
	case !on:
		return ""
	case col == colSinks && t.held() < len(t.Sinks):
		return yellow
	case col != colState:
		return ""
	}
	switch t.State {
	case refresher.Fresh:
		return green
	case refresher.Revoked, refresher.Expired:
		return red
	}
	return yellow
}
