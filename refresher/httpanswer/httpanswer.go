// Package httpanswer reads what any HTTP answer tells beside its body, so that
// all who ask understand it alike.
package httpanswer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Date is the time at the server; zero where it is not told. A cache's answer
// has the Date of when it was stored, and is known by its Age.
func Date(h http.Header) time.Time {
	if h.Get("Age") != "" {
		return time.Time{}
	}
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// maxRetryAfter keeps nonsense out of arithmetic; policy is the core's.
const maxRetryAfter = 24 * time.Hour

// RetryAfter is how long the server asks to be left alone; zero if it does not.
// It says so in seconds, or as a date, which counts from its own clock where the
// answer has that, otherwise from now.
// https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
func RetryAfter(h http.Header, now time.Time) time.Duration {
	asked := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(asked, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(asked)
	if err != nil {
		return 0
	}
	if date := Date(h); !date.IsZero() {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// StatusText is a status with its name: "503 Service Unavailable".
func StatusText(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// IsTimeout tells whether err says that there was no answer in time.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Within names the time that somebody had to answer, from began to the end of
// ctx: "within 30s", or "in time" where it is not known.
func Within(ctx context.Context, began time.Time) string {
	end, limited := ctx.Deadline()
	had := end.Sub(began)
	if !limited || began.IsZero() || had <= 0 {
		return "in time"
	}
	// Between the start of a timeout and of the request a little time passes.
	if had > time.Second {
		return "within " + had.Round(100*time.Millisecond).String()
	}
	return "within " + had.Round(10*time.Millisecond).String()
}
