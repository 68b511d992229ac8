package oauth

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"iam-token-refresher/refresher"
)

// says answers everything with one answer.
type says struct {
	status int
	kind   string
	body   string
}

// RoundTrip implements [http.RoundTripper].
func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.status, Status: http.StatusText(s.status), Request: r,
		Header: http.Header{"Content-Type": {s.kind}}, Body: io.NopCloser(strings.NewReader(s.body)),
	}, nil
}

// FuzzAnswers: whatever the service answers, what becomes of it is fit for a
// header, and what is said of it is a short line without any token of it.
func FuzzAnswers(f *testing.F) {
	const leak = "y0_AgAAAAAaBbCcDdEeFfGgHhIiJjKk"
	for _, body := range []string{
		`{"access_token":"` + leak + `","expires_in":31536000,"refresh_token":"1:x","token_type":"bearer"}`,
		`{"access_token":"` + leak + `","expires_in":"soon"}`, `{"access_token":"a\nb"}`, `{"access_token":""}`, `{"expires_in":1e99}`, `{}`, `null`, "\n                    null                    \n", `[]`, `<html>`, "",
		`{"error":"invalid_grant","error_description":"` + leak + `"}`, `{"error":"` + leak + `"}`, `{"error":"a\u001b[2J"}`, "access_token=" + leak + "&expires_in=10",
		`{"device_code":"d","user_code":"u","verification_url":"https://x/` + leak + `","interval":5,"expires_in":300}`, `{"device_code":"d","user_code":"\n","verification_url":"javascript:x"}`,
	} {
		f.Add(200, "application/json", body)
		f.Add(400, "application/json", body)
		f.Add(500, "text/html", body)
	}
	fit := func(t *testing.T, v refresher.Value) {
		if strings.ContainsFunc(v.Reveal(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("a value that is none: %q", v.Reveal())
		}
	}
	clean := func(t *testing.T, err error) {
		if said := err.Error(); strings.ContainsAny(said, "\n\r\x1b\x00") || len(said) > 1200 || !utf8.ValidString(said) || strings.Contains(said, leak[:20]) {
			t.Errorf("not a short line of text without tokens: %q", said)
		}
	}
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		if status < 100 || status > 599 {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		config := Config{URL: "https://oauth.example", HTTP: says{status, kind, body}}
		s := &source{application: newApplication(config, App{ClientID: "app", Secret: refresher.NewValue("secret")})}
		l, _, err := s.refresh(ctx, Login{ClientID: "app", Refresh: refresher.NewValue("1:old")})
		if err != nil {
			clean(t, err)
		} else {
			if l.Access.Reveal() == "" {
				t.Error("no value, and no error")
			}
			fit(t, l.Access)
			fit(t, l.Refresh)
		}
		if d, err := NewClient(config, App{ClientID: "app"}).StartDevice(ctx); err != nil {
			clean(t, err)
		} else if strings.ContainsAny(d.UserCode+d.URL, "\n\r\x1b\x00") {
			t.Errorf("shown to a person: %q %q", d.UserCode, d.URL)
		}
	})
}
