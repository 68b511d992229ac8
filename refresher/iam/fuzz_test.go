package iam

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"iam-token-refresher/refresher"
)

// wantCleanError wants what is said of bad input to be short, of one line, and
// without a long piece of that input.
func wantCleanError(t *testing.T, err error, input string) {
	t.Helper()
	if err == nil {
		return
	}
	said := err.Error()
	if strings.ContainsAny(said, "\n\r\x1b\x00") || len(said) > 1200 || !utf8.ValidString(said) {
		t.Errorf("not a short line of text: %q", said)
	}
	if strings.Contains(input, secret) && strings.Contains(said, secret[:24]) {
		t.Errorf("a value got out: %q", said)
	}
}

// wantGoodToken wants what was minted to be fit for a header and alive.
func wantGoodToken(t *testing.T, m refresher.Minted, now time.Time) {
	t.Helper()
	value := m.Value.Reveal()
	if value == "" || len(value) > maxValue || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		t.Errorf("a value that is none: %q", value)
	}
	if !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now) {
		t.Errorf("a value that expired at %v, at %v", m.ExpiresAt, now)
	}
}

func FuzzKeyFile(f *testing.F) {
	good := keyJSON(f)
	f.Add(good)
	for _, s := range []string{
		"", "{", "null", "[]", "-----BEGIN PRIVATE KEY-----\n", `{"id":1}`, `{"id":"a","service_account_id":"b","private_key":"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"}`,
		`{"id":"a","user_account_id":"b"}`, `{"id":"a","service_account_id":"b","private_key":"PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <a>\n"}`, "\xef\xbb\xbf{}",
	} {
		f.Add([]byte(s))
	}
	f.Add(bytes.ReplaceAll(good, []byte(`\n`), []byte(`\r\n`)))
	f.Fuzz(func(t *testing.T, content []byte) {
		var memo keyMemo
		key, err := memo.parseKey(content)
		if err == nil {
			if key.id == "" || key.account == "" {
				t.Errorf("a key without %q, %q", key.id, key.account)
			}
			if _, err := memo.parsed(key.private); err != nil {
				t.Errorf("a key that was taken cannot be used: %v", err)
			}
			return
		}
		wantCleanError(t, err, "")
		for piece := range bytes.FieldsFuncSeq(content, func(r rune) bool { return r == '"' || r == '\\' || r == '\n' }) {
			if len(piece) > 24 && bytes.Contains(good, piece) && strings.Contains(err.Error(), string(piece)) {
				t.Errorf("a piece of the key is in the error: %v", err)
			}
		}
	})
}

// canned answers every request alike.
type canned struct {
	status     int
	body, date string
	retry      string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: c.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1,
		Header: http.Header{"Date": {c.date}, "Retry-After": {c.retry}}, Body: io.NopCloser(strings.NewReader(c.body)),
	}, nil
}

// FuzzTokenAnswer: whatever the metadata service or the token exchange says is
// a live token, or an error that tells nothing secret.
func FuzzTokenAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"` + secret + `","expires_in":43200,"token_type":"Bearer"}`, `{"access_token":"` + secret + `"}`,
		`{"access_token":"","expires_in":1}`, `{"access_token":"x","expires_in":-1}`, `{"access_token":"x","expires_in":1e400}`,
		`{"access_token":"x","expires_in":9223372036854775807}`, `{"access_token":["` + secret + `"]}`, `{"error":"invalid_grant","error_description":"` + secret + `"}`,
		`{"error":"` + strings.Repeat("x ", 400) + `"}`, "<html>" + secret, "", "null", "[]", `"` + secret + `"`, "{\"access_token\":\"a\\nb\",\"expires_in\":1}",
	} {
		for _, status := range []int{200, 302, 400, 403, 404, 429, 503} {
			f.Add(status, body, "Mon, 23 Nov 2026 17:00:00 GMT", "30")
		}
	}
	f.Add(200, `{"access_token":"x","expires_in":1}`, "yesterday", "-5")
	jwt := filepath.Join(f.TempDir(), "jwt")
	if err := os.WriteFile(jwt, []byte("eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl"), 0o600); err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 17, 0, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, code int, body, date, retry string) {
		if code < 200 || code > 599 {
			return // no final answer of HTTP
		}
		answers := canned{status: code, body: body, date: date, retry: retry}
		c := New(Config{HTTP: answers, Clock: func() time.Time { return now }})
		c.metadata.Transport = answers
		workload, err := (WorkloadIdentityOptions{ServiceAccountID: "aje", TokenFile: jwt}).New(c)
		if err != nil {
			t.Fatal(err)
		}
		vm, err := (MetadataOptions{}).New(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []refresher.Source{workload, vm} {
			m, err := s.Mint(t.Context())
			wantCleanError(t, err, body)
			var failure *refresher.Failure
			switch {
			case err == nil:
				at := now
				if !m.ServerTime.IsZero() && m.ServerTime.Before(now) {
					at = m.ServerTime
				}
				wantGoodToken(t, m, at)
				if code != http.StatusOK {
					t.Errorf("a token came with %d", code)
				}
			case !errors.As(err, &failure) || failure.RetryAfter < 0:
				t.Errorf("%T: %v", err, err)
			}
		}
	})
}

// FuzzContent: what a file or a command gives is a token, or an error.
func FuzzContent(f *testing.F) {
	for _, s := range []string{
		secret, secret + "\n", `{"iam_token":"` + secret + `","expires_at":"2026-11-24T05:00:00Z"}`, `{"iamToken":"a","expiresAt":"never"}`,
		`{"access_token":"a","expires_in":1e300}`, `{"access_token":"a","expires_in":-1}`, `{"iam_token":"a b"}`, "{", "{}", " ", "\x00", "a\nb", `{"iam_token":["` + secret + `"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseContent(data)
		wantCleanError(t, err, string(data))
		if err == nil {
			wantGoodToken(t, refresher.Minted{Value: refresher.NewValue(c.value)}, time.Time{})
			if c.expiresIn < 0 || c.end(time.Now(), 0).Before(time.Now().Add(-time.Second)) && c.expiresAt.IsZero() && c.expiresIn > time.Second {
				t.Errorf("it lives for %v", c.expiresIn)
			}
		}
	})
}

// FuzzRefusal: what is told of a gRPC status is short and holds no secret, and
// what says "no" is not tried again at once.
func FuzzRefusal(f *testing.F) {
	for _, message := range []string{
		"", "The token is invalid", secret, "unexpected HTTP status code received from server: 403 (Forbidden); transport: received unexpected content-type \"text/html\"",
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`, "a\nb\x1b[31m", strings.Repeat("слово ", 200),
		`desc = "`, notGRPC, notGRPC + "abc", "content-type", "\xff\xfe",
	} {
		for code := range codes.Code(18) {
			f.Add(uint32(code), message, "")
		}
	}
	c := New(Config{})
	f.Fuzz(func(t *testing.T, code uint32, message, request string) {
		if code == 0 {
			return // no error
		}
		a := attempt{what: "create IAM token", secrets: []string{secret}}
		// Without anything to ask: the clock is not compared.
		tr := c.refused(context.Background(), a, remedies(func(codes.Code) string { return "" }), answer{requestID: request}, status.Error(codes.Code(code), message))
		err := a.failed(tr)
		wantCleanError(t, err, message+request)
		if tr.problem == "" {
			t.Errorf("code %d: nothing is said", code)
		}
		var u *url.Error
		if errors.As(err, &u) {
			t.Error("somebody else's error is handed on")
		}
	})
}
