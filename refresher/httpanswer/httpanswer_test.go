package httpanswer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

var (
	server = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	local  = server.Add(time.Hour)
)

func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Set(fields[i], fields[i+1])
	}
	return h
}

func TestTheServersTimeIsTakenFromTheServerAlone(t *testing.T) {
	t.Parallel()
	date := server.Format(http.TimeFormat)
	for what, c := range map[string]struct {
		header http.Header
		want   time.Time
	}{
		"its own":         {header("Date", date), server},
		"none":            {header(), time.Time{}},
		"no date":         {header("Date", "yesterday"), time.Time{}},
		"that of a cache": {header("Date", date, "Age", "3600"), time.Time{}},
	} {
		if got := Date(c.header); !got.Equal(c.want) {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestRetryAfterIsUnderstoodInBothForms(t *testing.T) {
	t.Parallel()
	date := server.Format(http.TimeFormat)
	in := func(d time.Duration) string { return server.Add(d).Format(http.TimeFormat) }
	for what, c := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"nothing":                   {header(), 0},
		"seconds":                   {header("Retry-After", "90"), 90 * time.Second},
		"blanks":                    {header("Retry-After", " 90 "), 90 * time.Second},
		"no number":                 {header("Retry-After", "soon"), 0},
		"less than none":            {header("Retry-After", "-5"), 0},
		"seconds for years":         {header("Retry-After", "4000000000"), maxRetryAfter},
		"seconds beyond a duration": {header("Retry-After", "18446744073709551615"), maxRetryAfter},
		"date":                      {header("Retry-After", in(90*time.Second), "Date", date), 90 * time.Second},
		"date by our clock":         {header("Retry-After", in(2*time.Hour)), time.Hour},
		"date, with a cache's":      {header("Retry-After", in(2*time.Hour), "Date", date, "Age", "60"), time.Hour},
		"date in the past":          {header("Retry-After", in(-time.Second), "Date", date), 0},
		"date in the far future":    {header("Retry-After", in(1000*time.Hour), "Date", date), maxRetryAfter},
		"date of another form":      {header("Retry-After", "2026-02-03"), 0},
	} {
		if got := RetryAfter(c.header, local); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestAStatusIsNamedWhereItHasAName(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{503: "503 Service Unavailable", 799: "799"} {
		if got := StatusText(status); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestATimeoutIsKnownInsideOtherErrors(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		fmt.Errorf("ask: %w", context.DeadlineExceeded): true,
		&net.OpError{Op: "read", Err: errTimeout{}}:     true,
		&net.OpError{Op: "read", Err: io.EOF}:           false,
		errors.New("timeout"):                           false,
		nil:                                             false,
	} {
		if got := IsTimeout(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

type errTimeout struct{}

func (errTimeout) Error() string   { return "too slow" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

func TestTheTimeToAnswerIsNamed(t *testing.T) {
	t.Parallel()
	began := time.Now()
	for had, want := range map[time.Duration]string{
		30*time.Second - 3*time.Millisecond: "within 30s",
		1500 * time.Millisecond:             "within 1.5s",
		199 * time.Millisecond:              "within 200ms",
		-time.Second:                        "in time",
	} {
		ctx, cancel := context.WithDeadline(t.Context(), began.Add(had))
		if got := Within(ctx, began); got != want {
			t.Errorf("%v: %s", had, got)
		}
		if got := Within(ctx, time.Time{}); got != "in time" {
			t.Errorf("from a time that nobody knows: %s", got)
		}
		cancel()
	}
	if got := Within(t.Context(), began); got != "in time" {
		t.Errorf("without an end: %s", got)
	}
}
