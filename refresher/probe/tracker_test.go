package probe_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/probe"
)

const (
	asJSON  = "application/json;charset=UTF-8"
	asHTML  = "text/html; charset=utf-8"
	myself  = `{"self":"https://api.tracker.yandex.net/v2/users/11","uid":11,"login":"robot-bot","display":"Bot"}`
	refusal = `{"errors":{},"errorMessages":["No way in"],"statusCode":401}`
	page    = `<html><title>403 Forbidden</title>Blocked by your company</html>`
)

func TestVerdictIsTrackersOwnOrUnknown(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	in90s := date.Add(90 * time.Second).Format(http.TimeFormat)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   refresher.Verdict
		reason []string
		after  time.Duration
	}{
		"200 with an account":               {says(200, asJSON, myself), refresher.Accepted, []string{"200", "robot-bot"}, 0},
		"200 with uid alone":                {says(200, asJSON, `{"uid":"11"}`), refresher.Accepted, []string{"200"}, 0},
		"200 with login alone, called text": {says(200, "text/plain", ` {"login":"bot"} `), refresher.Accepted, []string{"200"}, 0},
		"200 with a page":                   {says(200, asHTML, page), refresher.Unknown, []string{"200", "text/html", "proxy"}, 0},
		"200 with nothing":                  {says(200, asJSON, ``), refresher.Unknown, []string{"an empty body"}, 0},
		"200 with an array":                 {says(200, asJSON, `[`+myself+`]`), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with another object":           {says(200, asJSON, `{"status":"ok"}`), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with empty ids":                {says(200, asJSON, `{"uid":null,"login":""}`), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with ids of a wrong type":      {says(200, asJSON, `{"uid":{},"login":[1]}`), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with ids in other letters":     {says(200, asJSON, `{"UID":11,"Login":"bot"}`), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with more behind the object":   {says(200, asJSON, myself+`{}`), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with broken JSON":              {says(200, asJSON, myself[:40]), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 with the error body":           {says(200, asJSON, refusal), refresher.Unknown, []string{"not with Tracker's answer"}, 0},
		"200 of a megabyte":                 {says(200, asJSON, `{"uid":1,"x":"`+strings.Repeat("x", 1<<20)+`"}`), refresher.Unknown, []string{"more than 64 KB"}, 0},
		"200 that breaks off":               {raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n" + myself), refresher.Unknown, []string{"200, but the answer broke off"}, 0},
		"201 with an account":               {says(201, asJSON, myself), refresher.Unknown, []string{"201"}, 0},
		"204":                               {says(204, asJSON, ""), refresher.Unknown, []string{"204"}, 0},
		"401":                               {says(401, asJSON, refusal), refresher.RejectedToken, []string{"401: No way in", "expired, revoked"}, 0},
		"401 with messages alone":           {says(401, asJSON, `{"errorMessages":[]}`), refresher.RejectedToken, []string{"401: the token"}, 0},
		"401 with a status alone":           {says(401, asJSON, `{"statusCode":401}`), refresher.RejectedToken, []string{"401: the token"}, 0},
		"401 with nothing":                  {says(401, asJSON, ""), refresher.Unknown, []string{"401, but not Tracker's own", "an empty body"}, 0},
		"401 with a page":                   {says(401, asHTML, page), refresher.Unknown, []string{"401, but not Tracker's own", "text/html"}, 0},
		"401 with another API's JSON":       {says(401, asJSON, `{"code":16,"message":"bad","errorMessages":"x","statusCode":"401"}`), refresher.Unknown, []string{"not Tracker's own"}, 0},
		"403":                               {says(403, asJSON, strings.ReplaceAll(refusal, "401", "403")), refresher.RejectedAccess, []string{"403: No way in", org, "takes the source oauth with org_id"}, 0},
		"403 of a proxy":                    {says(403, asHTML, page), refresher.Unknown, []string{"403, but not Tracker's own", "proxy or firewall"}, 0},
		"407":                               {says(407, asHTML, page), refresher.Unknown, []string{"407"}, 0},
		"400":                               {says(400, asJSON, refusal), refresher.Unknown, []string{"400: No way in", "cloud_org_id"}, 0},
		"404":                               {says(404, asJSON, refusal), refresher.Unknown, []string{"404: No way in", "address"}, 0},
		"429 with seconds to wait":          {says(429, asJSON, refusal, "Retry-After", "30"), refresher.Unknown, []string{"429: No way in: asked too often"}, 30 * time.Second},
		"429 with a date to wait for":       {says(429, asJSON, refusal, "Retry-After", in90s), refresher.Unknown, []string{"429"}, 90 * time.Second},
		"429 with a date that has passed":   {says(429, asJSON, refusal, "Retry-After", date.Add(-time.Hour).Format(http.TimeFormat)), refresher.Unknown, []string{"429"}, 0},
		"429 with rubbish to wait":          {says(429, asJSON, refusal, "Retry-After", "-soon"), refresher.Unknown, []string{"429"}, 0},
		"429 without a word":                {says(429, "", ""), refresher.Unknown, []string{"429: asked too often"}, 0},
		"503 with ages to wait":             {says(503, asHTML, page, "Retry-After", "18446744073709551615"), refresher.Unknown, []string{"503: trouble"}, 24 * time.Hour},
		"500":                               {says(500, asJSON, refusal), refresher.Unknown, []string{"500: No way in: trouble"}, 0},
		"302":                               {says(302, "", "", "Location", "https://login.example/?q=1"), refresher.Unknown, []string{"302, a redirect to login.example: not followed"}, 0},
		"302 to nowhere":                    {says(302, "", ""), refresher.Unknown, []string{"302"}, 0},
		"307 with an account":               {says(307, asJSON, myself, "Location", "/v3/myself"), refresher.Unknown, []string{"307, a redirect elsewhere"}, 0},
		"a reset":                           {reset, refresher.Unknown, []string{"closed before an answer"}, 0},
		"a close without an answer":         {raw(""), refresher.Unknown, []string{"closed before an answer"}, 0},
		"no HTTP":                           {raw("SSH-2.0-OpenSSH_9.9\r\n"), refresher.Unknown, []string{"SSH"}, 0},
		"messages of many lines and all too long": {says(401, asJSON, `{"errorMessages":["one\ntwo \u001b[2J","`+strings.Repeat("и так ", 300)+`"]}`), refresher.RejectedToken, []string{"one two", "…: the token"}, 0},
		"messages that are no text, among such":   {says(401, asJSON, `{"errorMessages":[1,null,"a","",{"x":1},"b"]}`), refresher.RejectedToken, []string{"401: a; b:"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := opaque(t)
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", date.Format(http.TimeFormat))
				c.answer(w, r)
			})
			got := onTracker(t, s).Probe(t.Context(), refresher.NewValue(secret))
			if got.Verdict != c.want || got.RetryAfter != c.after {
				t.Errorf("got %v, retry after %v; want %v, %v", got.Verdict, got.RetryAfter, c.want, c.after)
			}
			checkReason(t, got, secret, c.reason...)
			if throttled := strings.HasPrefix(name, "429"); got.Throttled != throttled {
				t.Errorf("throttled: %v", got.Throttled)
			}
			answered := !strings.HasPrefix(name, "a ") && !strings.HasPrefix(name, "no ") && name != "200 that breaks off"
			if answered && !got.ServerTime.Equal(date) || !answered && !got.ServerTime.IsZero() {
				t.Errorf("server time %v", got.ServerTime)
			}
		})
	}
}

func TestTroubleOnTheWayIsUnknownAndNamed(t *testing.T) {
	t.Parallel()
	hanging := server(t, hang)
	closed := server(t, hang)
	closed.Close()
	plainHTTP := httptest.NewServer(says(200, asJSON, myself))
	t.Cleanup(plainHTTP.Close)
	cancelled := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, cancel
	}
	soon := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 100*time.Millisecond)
	}
	for name, c := range map[string]struct {
		client *http.Client
		url    string
		ctx    func(context.Context) (context.Context, context.CancelFunc)
		want   string
	}{
		"a hang":              {hanging.Client(), hanging.URL, soon, "no answer within "},
		"a client's timeout":  {&http.Client{Transport: hanging.Client().Transport, Timeout: 50 * time.Millisecond}, hanging.URL, context.WithCancel, "no answer in time"},
		"a cancelled context": {hanging.Client(), hanging.URL, cancelled, "given up"},
		"nobody there":        {closed.Client(), closed.URL, context.WithCancel, "connection refused"},
		"a foreign authority": {&http.Client{Transport: &http.Transport{}}, hanging.URL, context.WithCancel, "signed by unknown authority: set ca_file"},
		"another host's name": {hanging.Client(), strings.Replace(hanging.URL, "127.0.0.1", "localhost", 1), context.WithCancel, "certificate is for another name"},
		"no TLS":              {hanging.Client(), strings.Replace(plainHTTP.URL, "http:", "https:", 1), context.WithCancel, "does not speak TLS"},
		"a name that is not":  {hanging.Client(), "https://tracker.invalid", context.WithCancel, "tracker.invalid"},
		"a transport's own":   {&http.Client{Transport: breaks{}}, hanging.URL, context.WithCancel, "is broken by [redacted]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := opaque(t)
			p, err := probe.TrackerOptions{CloudOrgID: org}.New(probe.Config{Client: c.client, TrackerURL: c.url})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := c.ctx(t.Context())
			defer cancel()
			got := p.Probe(ctx, refresher.NewValue(secret))
			if got.Verdict != refresher.Unknown {
				t.Errorf("got %v", got.Verdict)
			}
			checkReason(t, got, secret, c.want, "Tracker at ")
		})
	}
}

// breaks fails with an error that quotes what it should not.
type breaks struct{}

func (breaks) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, errors.New("the transport is broken by " + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
}

func TestRequestIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options       probe.TrackerOptions
		scheme        string
		authorization string
		cloud, org    string
	}{
		"a Cloud organization":      {probe.TrackerOptions{CloudOrgID: org}, "", "Bearer value", org, ""},
		"a Yandex 360 organization": {probe.TrackerOptions{OrgID: "1234567"}, "", "Bearer value", "", "1234567"},
		"an OAuth token":            {probe.TrackerOptions{OrgID: "1234567"}, probe.SchemeOAuth, "OAuth value", "", "1234567"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan *http.Request, 1)
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				seen <- r
				says(200, asJSON, myself)(w, r)
			})
			p, err := c.options.New(probe.Config{Client: s.Client(), TrackerURL: s.URL + "/prefix/", UserAgent: "test/1", Scheme: c.scheme})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Probe(t.Context(), refresher.NewValue("value")); got.Verdict != refresher.Accepted {
				t.Fatalf("got %+v", got)
			}
			r := <-seen
			if r.Method != http.MethodGet || r.URL.String() != "/prefix/v3/myself" || r.UserAgent() != "test/1" || r.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
			}
			if got := r.Header.Get("Authorization"); got != c.authorization {
				t.Errorf("Authorization: %s", got)
			}
			if r.Header.Get("X-Cloud-Org-ID") != c.cloud || r.Header.Get("X-Org-ID") != c.org {
				t.Errorf("organization: %v", r.Header)
			}
		})
	}
}

func TestRedirectIsNotFollowedWithTheToken(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	elsewhere := server(t, func(w http.ResponseWriter, r *http.Request) {
		followed.Store(true)
		says(200, asJSON, myself)(w, r)
	})
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/?secret=1", http.StatusTemporaryRedirect)
	})
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return nil }
	p := onTracker(t, s)
	got := p.Probe(t.Context(), refresher.NewValue("value"))
	if got.Verdict != refresher.Unknown || followed.Load() {
		t.Errorf("got %+v, followed: %v", got, followed.Load())
	}
	if strings.Contains(got.Reason, "secret=1") {
		t.Errorf("the reason quotes the whole address: %s", got.Reason)
	}
}

// keeper is a cookie jar that must not be used.
type keeper struct{ used atomic.Bool }

func (k *keeper) SetCookies(*url.URL, []*http.Cookie)       { k.used.Store(true) }
func (k *keeper) Cookies(*url.URL) (cookies []*http.Cookie) { k.used.Store(true); return nil }

func TestCookiesAreNotKept(t *testing.T) {
	t.Parallel()
	s := server(t, says(200, asJSON, myself, "Set-Cookie", "a=b"))
	var jar keeper
	s.Client().Jar = &jar
	onTracker(t, s).Probe(t.Context(), refresher.NewValue("value"))
	if jar.used.Load() {
		t.Error("the client's cookies were used")
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"accepted": says(200, asJSON, myself),
		"rejected": says(401, asJSON, refusal),
		"a page":   says(503, asHTML, strings.Repeat(page, 800)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int32
			s := httptest.NewUnstartedServer(answer)
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					conns.Add(1)
				}
			}
			s.StartTLS()
			t.Cleanup(s.Close)
			p := onTracker(t, s)
			for range 3 {
				p.Probe(t.Context(), refresher.NewValue("value"))
			}
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections for 3 probes", n)
			}
		})
	}
}

func TestEchoedTokenIsNotRepeated(t *testing.T) {
	t.Parallel()
	secret := opaque(t)
	for name, echo := range map[string]string{
		"whole":        "bad token " + secret,
		"cut":          "bad token " + secret[:24] + "...",
		"its end":      "bad token ..." + secret[len(secret)-24:],
		"another's":    "bad token t1.9euelZqVyZ6JzcqOnMqZ",
		"a long word":  "bad token " + strings.Repeat("Q2xvdWQ", 8),
		"in the login": secret,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body := 401, `{"errorMessages":["`+echo+`"],"statusCode":401}`
			if name == "in the login" {
				code, body = 200, `{"login":"`+echo+`"}`
			}
			got := onTracker(t, server(t, says(code, asJSON, body))).Probe(t.Context(), refresher.NewValue(secret))
			checkReason(t, got, secret, "[redacted]")
		})
	}
}

func TestValueThatFitsNoHeaderIsNotSent(t *testing.T) {
	t.Parallel()
	s := server(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	for _, secret := range []string{"", "two\nlines of a secret", "nul\x00 in a secret"} {
		got := onTracker(t, s).Probe(t.Context(), refresher.NewValue(secret))
		if got.Verdict != refresher.Unknown {
			t.Errorf("%q: got %v", secret, got.Verdict)
		}
		checkReason(t, got, secret, "not tried")
	}
}

func TestDateOfACacheIsNoServerTime(t *testing.T) {
	t.Parallel()
	s := server(t, says(200, asJSON, myself, "Age", "3600", "Date", "Wed, 04 Mar 2026 05:06:07 GMT"))
	if got := onTracker(t, s).Probe(t.Context(), refresher.NewValue("value")); !got.ServerTime.IsZero() {
		t.Errorf("got %v", got.ServerTime)
	}
}

func TestTrackerOptionsThatCannotBeRight(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`cloud_org_id: bpfaidqca8vd0m5jl3fp`: "",
		`org_id: 1234567`:                    "",
		`org_id: "1234567"`:                  "",
		`org_id: 12345678901234567890123`:    "",
		`org_id: 1.5`:                        "org_id: is not an organization id",
		`cloud_org_id: "bpf\r\nX-Evil: 1"`:   "cloud_org_id: is not an organization id",
		`cloud_org_id: "организация"`:        "cloud_org_id: is not an organization id",
		`{}`:                                 "needs cloud_org_id",
		`{cloud_org_id: bpf, org_id: 1}`:     "org_id: cloud_org_id is given too",
	} {
		var o probe.TrackerOptions
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		checkInvalid(t, text, o.Validate(), want)
		_, err := o.New(probe.Config{})
		checkInvalid(t, text, err, want)
	}
}

// checkInvalid: no error for no words, else an Invalid that says them.
func checkInvalid(t *testing.T, what string, err error, want string) {
	t.Helper()
	var invalid *refresher.Invalid
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (!errors.As(err, &invalid) || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func TestTokenIsSentInTheClearToLoopbackOnly(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"":                          "",
		"https://tracker.example":   "",
		"http://127.0.0.1:80":       "",
		"http://[::1]:80":           "",
		"http://localhost:80":       "",
		"http://tracker.example":    "in the clear to tracker.example",
		"http://127.0.0.1.example":  "in the clear",
		"http://192.0.2.1":          "in the clear",
		"tracker.example:443":       "names no host",
		"https://user:pw@x.example": "user or password",
		"https://":                  "names no host",
		"https://%zz:pw":            "is not a URL",
		"ftp://x.example":           "must begin with https://",
	} {
		_, err := probe.TrackerOptions{CloudOrgID: org}.New(probe.Config{TrackerURL: address})
		checkInvalid(t, address, err, want)
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestTargetAndHostNameWhatIsAsked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options      probe.TrackerOptions
		url          string
		target, host string
	}{
		{probe.TrackerOptions{CloudOrgID: org}, "", "tracker cloud_org_id=" + org + " at https://api.tracker.yandex.net", "api.tracker.yandex.net:443"},
		{probe.TrackerOptions{OrgID: "7"}, "https://X.example:8443/t/", "tracker org_id=7 at https://X.example:8443/t", "x.example:8443"},
		{probe.TrackerOptions{OrgID: "7"}, "http://[::1]", "tracker org_id=7 at http://[::1]", "[::1]:80"},
	} {
		p, err := c.options.New(probe.Config{TrackerURL: c.url})
		if err != nil {
			t.Fatal(err)
		}
		if p.Target() != c.target || p.Host() != c.host {
			t.Errorf("got %q, %q; want %q, %q", p.Target(), p.Host(), c.target, c.host)
		}
	}
}
