package iam

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/httpanswer"
	"iam-token-refresher/refresher/scrub"
)

// attempt is one mint as its errors tell it.
type attempt struct {
	// what is done to what: "create IAM token at iam…:443 with key aje…".
	what string
	// secrets are taken out of everything that others said about it.
	secrets []string
	// began is when somebody was asked; zero where that is not told.
	began time.Time
}

// trouble is why an attempt failed.
type trouble struct {
	problem string // what is wrong, no secrets
	remedy  string // what to do about it; may be empty
	cause   error  // only a context's error: nobody else's text is safe to hand on

	retryAfter time.Duration
	permanent  bool
	serverTime time.Time
}

// failed makes the error of an attempt.
func (a attempt) failed(t trouble) error {
	text := a.what + ": " + t.problem
	if t.remedy != "" {
		text += ": " + t.remedy
	}
	return &refresher.Failure{
		Err:        &mintError{text: text, cause: t.cause},
		RetryAfter: max(t.retryAfter, 0),
		Permanent:  t.permanent,
		ServerTime: t.serverTime,
	}
}

// outOfTime is the trouble of an attempt whose context ended; ok is false when
// it did not.
func (a attempt) outOfTime(ctx context.Context, whom string) (t trouble, ok bool) {
	switch err := ctx.Err(); {
	case err == nil:
		return trouble{}, false
	case errors.Is(err, context.DeadlineExceeded):
		return trouble{problem: "no answer from " + whom + " " + httpanswer.Within(ctx, a.began), cause: err}, true
	default:
		return trouble{problem: "given up before " + whom + " answered", cause: err}, true
	}
}

// quote makes somebody else's words fit for an error; "" for nothing.
func quote(words string, secrets ...string) string {
	if words = scrub.Message(words, secrets...); words == "" {
		return ""
	}
	return strconv.Quote(words)
}

type mintError struct {
	text  string
	cause error
}

func (e *mintError) Error() string { return e.text }
func (e *mintError) Unwrap() error { return e.cause }

// minted checks what every answer must be before it is a token.
func (c *Cloud) minted(a attempt, value string, expiresAt, serverTime time.Time) (refresher.Minted, error) {
	value, err := clean(value)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: "the token it gave " + err.Error(), serverTime: serverTime})
	}
	now := c.now()
	if !serverTime.IsZero() {
		now = serverTime
	}
	if !expiresAt.IsZero() && !expiresAt.After(now) {
		t := trouble{
			problem:    fmt.Sprintf("the token it gave expired %s ago (%s)", span(now.Sub(expiresAt)), expiresAt.UTC().Format(time.RFC3339)),
			serverTime: serverTime,
		}
		if serverTime.IsZero() {
			t.remedy = "check this machine's clock"
		}
		return refresher.Minted{}, a.failed(t)
	}
	return refresher.Minted{
		Value:      refresher.NewValue(value),
		Type:       refresher.TypeIAM,
		ExpiresAt:  expiresAt,
		ServerTime: serverTime,
	}, nil
}

// maxValue bounds what is taken for a token, in bytes. Real ones are below 1.5 KB.
const maxValue = 16 << 10

// clean takes the line end off a value and refuses what cannot be a token in a
// header. The format is not looked at: it may change.
// https://yandex.cloud/en/docs/iam/concepts/authorization/iam-token#token-format
// The error continues a sentence about the value.
func clean(value string) (string, error) {
	value = strings.TrimRight(value, "\r\n")
	switch {
	case value == "":
		return "", errors.New("is empty")
	case strings.ContainsAny(value, "\r\n"):
		return "", fmt.Errorf("has %d lines; a token is one", strings.Count(value, "\n")+1)
	case len(value) > maxValue:
		return "", fmt.Errorf("has %d bytes; a token has at most %d", len(value), maxValue)
	}
	for i := range len(value) {
		if b := value[i]; b <= ' ' || b >= 0x7f {
			return "", fmt.Errorf("has a blank, a control character or one beyond ASCII at byte %d of %d; a token has none", i+1, len(value))
		}
	}
	return value, nil
}

// span is a duration as people say it: the biggest unit, rounded.
func span(d time.Duration) string {
	d = d.Abs()
	for _, unit := range []struct {
		size, below time.Duration
		name        string
	}{
		{time.Second, 2 * time.Minute, "s"},
		{time.Minute, 2 * time.Hour, "min"},
		{time.Hour, 48 * time.Hour, "h"},
	} {
		if rounded := d.Round(unit.size); rounded < unit.below {
			return fmt.Sprintf("%d %s", rounded/unit.size, unit.name)
		}
	}
	const day = 24 * time.Hour
	return fmt.Sprintf("%d days", d.Round(day)/day)
}
