package probe_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/probe"
)

func bearer() map[string]string { return map[string]string{"Authorization": "Bearer {{.Value}}"} }

func TestVerdictOfAnyAPIIsItsStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer             http.HandlerFunc
		accepted, rejected []int
		want               refresher.Verdict
		reason             []string
	}{
		"200":                              {says(200, "text/plain", "ok"), nil, nil, refresher.Accepted, []string{"200"}},
		"200 with nothing":                 {says(200, "", ""), nil, nil, refresher.Accepted, []string{"200"}},
		"200 with a page":                  {says(200, asHTML, page), nil, nil, refresher.Unknown, []string{"web page"}},
		"200 with a lot":                   {says(200, "text/plain", strings.Repeat("x", 1<<20)), nil, nil, refresher.Accepted, []string{"200"}},
		"200 that breaks off":              {raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}"), nil, nil, refresher.Unknown, []string{"broke off"}},
		"204":                              {says(204, "", ""), nil, nil, refresher.Unknown, []string{"204: neither in accepted nor in rejected"}},
		"204 where that is accepted":       {says(204, "", ""), []int{200, 204}, nil, refresher.Accepted, []string{"204"}},
		"401":                              {says(401, asJSON, `{"message":"bad one"}`), nil, nil, refresher.RejectedToken, []string{"401: bad one: the token"}},
		"401 with nothing":                 {says(401, "", ""), nil, nil, refresher.RejectedToken, []string{"401: the token"}},
		"401 with a page":                  {says(401, asHTML, page), nil, nil, refresher.Unknown, []string{"web page"}},
		"401 as OAuth says it":             {says(401, asJSON, `{"error":"invalid_token","error_description":"is old"}`), nil, nil, refresher.RejectedToken, []string{"401: is old"}},
		"401 as Google says it":            {says(401, asJSON, `{"error":{"message":"is old"}}`), nil, nil, refresher.RejectedToken, []string{"401: is old"}},
		"401 as Tracker says it":           {says(401, asJSON, refusal), nil, nil, refresher.RejectedToken, []string{"401: No way in"}},
		"403":                              {says(403, asJSON, `{"error":"no"}`), nil, nil, refresher.RejectedAccess, []string{"403: no: the account has no access"}},
		"403 where only 401 is rejected":   {says(403, asJSON, ``), nil, []int{401}, refresher.Unknown, []string{"403: neither"}},
		"400 where that is rejected":       {says(400, asJSON, ``), nil, []int{400}, refresher.RejectedToken, []string{"400: the token"}},
		"403 where that is accepted":       {says(403, asJSON, ``), []int{403}, nil, refresher.Accepted, []string{"403"}},
		"429":                              {says(429, asJSON, `{"detail":"slow down"}`), nil, nil, refresher.Unknown, []string{"429: slow down: asked too often"}},
		"500":                              {says(500, asJSON, `{"title":"oops"}`), nil, nil, refresher.Unknown, []string{"500: oops: neither"}},
		"302":                              {says(302, "", "", "Location", "https://login.example/x?y"), nil, nil, refresher.Unknown, []string{"302, a redirect to login.example"}},
		"302 where that means a bad token": {says(302, "", "", "Location", "/login"), nil, []int{302}, refresher.RejectedToken, []string{"302: the token"}},
		"a reset":                          {reset, nil, nil, refresher.Unknown, []string{"closed before an answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := opaque(t)
			s := server(t, c.answer)
			p, err := probe.HTTPOptions{URL: s.URL + "/me?key=hidden", Headers: bearer(), Accepted: c.accepted, Rejected: c.rejected}.New(probe.Config{Client: s.Client()})
			if err != nil {
				t.Fatal(err)
			}
			got := p.Probe(t.Context(), refresher.NewValue(secret))
			if got.Verdict != c.want {
				t.Errorf("got %v, want %v", got.Verdict, c.want)
			}
			if !got.ServerTime.IsZero() {
				t.Errorf("our clock would be judged by just any API's: %v", got.ServerTime)
			}
			checkReason(t, got, secret, append(c.reason, s.URL+"/me")...)
			if strings.Contains(got.Reason+p.Target(), "hidden") {
				t.Errorf("the query is shown: %s, %s", got.Reason, p.Target())
			}
		})
	}
}

func TestHeadersAreMadeOfTheValue(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	s := server(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	p, err := probe.HTTPOptions{URL: s.URL, Headers: map[string]string{
		"authorization": `Token "{{.Value}}"`,
		"X-Org":         "7",
		"Host":          "api.example",
		"Accept":        "application/vnd.x+json",
	}}.New(probe.Config{Client: s.Client(), UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	p.Probe(t.Context(), refresher.NewValue("value"))
	r := <-seen
	if r.Header.Get("Authorization") != `Token "value"` || r.Header.Get("X-Org") != "7" || r.Host != "api.example" ||
		r.Header.Get("Accept") != "application/vnd.x+json" || r.UserAgent() != "test/1" {
		t.Errorf("got %s %v", r.Host, r.Header)
	}
}

func TestEchoedHeaderOfTheFileIsNotRepeated(t *testing.T) {
	t.Parallel()
	const key = "0123-api-key-9876"
	s := server(t, says(401, asJSON, `{"message":"unknown key `+key+` in Key `+key+`"}`))
	p, err := probe.HTTPOptions{URL: s.URL, HeadersFile: headersFile(t, "Authorization: Bearer {{.Value}}\nX-Key: Key "+key)}.New(probe.Config{Client: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	checkReason(t, p.Probe(t.Context(), refresher.NewValue("value")), key, "unknown key [redacted] in [redacted]")
	if strings.Contains(p.Target(), "0123") {
		t.Errorf("target: %s", p.Target())
	}
}

func headersFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHeadersFileIsReadWhenTheProbeIsMade(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	s := server(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	o := probe.HTTPOptions{URL: s.URL, HeadersFile: headersFile(t, "\ufeff# comment\n\n  Authorization :  Bearer {{.Value}}  \r\nX-Key: a:b\n")}
	if got := o.Rebuild(); !slices.Equal(got, []string{o.HeadersFile}) {
		t.Errorf("rebuilt when %v change", got)
	}
	p, err := o.New(probe.Config{Client: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	p.Probe(t.Context(), refresher.NewValue("value"))
	if r := <-seen; r.Header.Get("Authorization") != "Bearer value" || r.Header.Get("X-Key") != "a:b" {
		t.Errorf("got %v", r.Header)
	}
	if got := (probe.HTTPOptions{Headers: bearer()}).Rebuild(); got != nil {
		t.Errorf("without a file: rebuilt when %v change", got)
	}
}

func TestBadHeadersFileIsToldByItsLineAlone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\xff\xfeA\x00:\x00":               "is UTF-16",
		"":                                 "no line holds {{.Value}}",
		"A: hush-hush":                     "no line holds {{.Value}}",
		"A: {{.Value}}\nhush-hush":         "line 2: is not 'Name: template'",
		"A: {{.Value hush-hush":            "line 1: is not a template",
		"A: {{.Hush-hush}}":                "line 1: is not a template",
		"A: {{.Hush}}hush-hush":            "line 1: is not a template",
		"A: {{.Value}}\na: hush-hush":      "line 2: header A is given twice",
		"hush hush-hush: {{.Value}}":       "line 1: is not a header's name",
		"Content-Length: 5":                "line 1: is for the connection",
		"A: " + strings.Repeat("x", 70000): "token too long",
	} {
		path := headersFile(t, text)
		_, err := probe.HTTPOptions{URL: "https://x.example", HeadersFile: path}.New(probe.Config{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.30q: got %v, want %s", text, err, want)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
	if _, err := (probe.HTTPOptions{URL: "https://x.example", HeadersFile: "/nowhere/headers"}).New(probe.Config{}); err == nil || !strings.Contains(err.Error(), "/nowhere/headers") {
		t.Errorf("got %v", err)
	}
}

func TestHTTPOptionsThatCannotBeRight(t *testing.T) {
	t.Parallel()
	const headers = `headers: {Authorization: "Bearer {{.Value}}"}`
	for text, want := range map[string]string{
		`{url: https://x.example, ` + headers + `}`:                                        "",
		`{url: https://x.example, headers_file: /f}`:                                       "",
		`{url: http://127.0.0.1/x, ` + headers + `}`:                                       "",
		`{url: http://x.example, ` + headers + `}`:                                         "url: would send the token in the clear",
		`{url: "https://u:hush@x.example", ` + headers + `}`:                               "url: must not hold a user",
		`{url: x, ` + headers + `}`:                                                        "url: names no host",
		`{url: https://x.example}`:                                                         "headers: say how the token is sent",
		`{url: https://x.example, headers_file: /f, ` + headers + `}`:                      "headers_file: headers are given too",
		`{url: https://x.example, headers: {A: b}}`:                                        "headers: none holds {{.Value}}",
		`{url: https://x.example, headers: {A: "{{.Value"}}`:                               "headers.A: is not a template",
		`{url: https://x.example, headers: {A: "{{.Token}}"}}`:                             "headers.A: is not a template",
		`{url: https://x.example, headers: {A: "{{.Value}}\nB: c"}}`:                       "headers.A: cannot be made into a header",
		`{url: https://x.example, headers: {"A b": "{{.Value}}"}}`:                         "headers.A b: is not a header's name",
		`{url: https://x.example, headers: {A: "{{.Value}}", a: b}}`:                       "headers.a: is given twice",
		`{url: https://x.example, headers: {Te: "{{.Value}}"}}`:                            "headers.Te: is for the connection",
		`{url: https://x.example, accepted: [200, 404], rejected: [401], ` + headers + `}`: "",
		`{url: https://x.example, accepted: [401], ` + headers + `}`:                       "",
		`{url: https://x.example, accepted: [200, 401], rejected: [401], ` + headers + `}`: "rejected: 401 is in accepted too",
		`{url: https://x.example, accepted: [0], ` + headers + `}`:                         "accepted: 0 is not a status code",
		`{url: https://x.example, rejected: [429], ` + headers + `}`:                       "rejected: 429 says nothing of the token",
		`{url: https://x.example, rejected: [503], ` + headers + `}`:                       "rejected: 503 says nothing of the token",
	} {
		var o probe.HTTPOptions
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		err := o.Validate()
		checkInvalid(t, text, err, want)
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("quotes a secret: %v", err)
		}
	}
}

func TestTargetChangesWithWhatAVerdictDependsOn(t *testing.T) {
	t.Parallel()
	base := probe.HTTPOptions{URL: "https://x.example/me?a=1", Headers: bearer()}
	target := func(change func(*probe.HTTPOptions)) string {
		o := base
		o.Headers = bearer()
		change(&o)
		p, err := o.New(probe.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Host() != "x.example:443" {
			t.Errorf("host %s", p.Host())
		}
		return p.Target()
	}
	tenant := func(name, value string) string {
		return target(func(o *probe.HTTPOptions) { o.Headers[name] = value })
	}
	if tenant("x-tenant", "A") == tenant("x-tenant", "B") || tenant("x-tenant", "A") != tenant("X-Tenant", "A") {
		t.Error("the spelling of a header's name matters")
	}
	same := target(func(*probe.HTTPOptions) {})
	if again := target(func(o *probe.HTTPOptions) { o.Accepted = []int{200} }); again != same {
		t.Errorf("%s and %s differ", same, again)
	}
	for name, change := range map[string]func(*probe.HTTPOptions){
		"query":    func(o *probe.HTTPOptions) { o.URL = "https://x.example/me?a=2" },
		"path":     func(o *probe.HTTPOptions) { o.URL = "https://x.example/you?a=1" },
		"headers":  func(o *probe.HTTPOptions) { o.Headers["X-Org"] = "7" },
		"accepted": func(o *probe.HTTPOptions) { o.Accepted = []int{204} },
		"rejected": func(o *probe.HTTPOptions) { o.Rejected = []int{401} },
	} {
		if other := target(change); other == same {
			t.Errorf("another %s: still %s", name, other)
		}
	}
}
