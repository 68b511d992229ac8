package redact

import (
	"log"
	"strings"
	"testing"
)

func TestTheLibrarysLogIsToldWithoutWhatItQuotes(t *testing.T) {
	t.Parallel()
	var told []string
	l := log.New(Library(func(message string) { told = append(told, message) }), "", 0)
	l.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "a \"body\" `of` theirs", nil)
	l.Printf("it was cut short: %.10q", "another body"[:4])
	l.Print(`it was cut short: "another bo`)
	l.Printf("in other quotes: %#q", "a third body")
	l.Print("http: Accept error: too many open files")
	want := []string{
		"Unsolicited response received on idle HTTP channel starting with [redacted]; err=<nil>",
		"it was cut short: [redacted]",
		"it was cut short: [redacted]",
		"in other quotes: [redacted]",
		"http: Accept error: too many open files",
	}
	if got := strings.Join(told, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("it tells\n%s\nand not\n%s", got, strings.Join(want, "\n"))
	}
}
