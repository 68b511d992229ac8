package status

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// span writes a duration as people say it, rounded down: "11 h 43 min".
func span(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return two(d, time.Hour, "h", time.Minute, "min")
	case d < 10*day:
		return two(d, day, "d", time.Hour, "h")
	}
	return fmt.Sprintf("%d d", d/day)
}

func two(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	s := fmt.Sprintf("%d %s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		s += fmt.Sprintf(" %d %s", rest, smallName)
	}
	return s
}

// about is span in one unit.
func about(d time.Duration) string {
	s := strings.SplitN(span(d), " ", 3)
	return s[0] + " " + s[1]
}

// oneLine makes other people's words fit for a terminal and a line: without
// line breaks and control characters.
func oneLine(s string) string {
	if strings.IndexFunc(s, notPrintable) < 0 {
		return s
	}
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if notPrintable(r) {
			return ' '
		}
		return r
	}, s)), " ")
}

func notPrintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// cut shortens s to at most width characters.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return string([]rune(s)[:width-1]) + "…"
}

// wrap breaks s into lines of at most width characters, at spaces where it can.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		for {
			switch n := utf8.RuneCountInString(line); {
			case n == 0 && utf8.RuneCountInString(word) > width:
				runes := []rune(word)
				lines, word = append(lines, string(runes[:width])), string(runes[width:])
				continue
			case n == 0:
				line = word
			case n+1+utf8.RuneCountInString(word) <= width:
				line += " " + word
			default:
				lines, line = append(lines, line), ""
				continue
			}
			break
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
