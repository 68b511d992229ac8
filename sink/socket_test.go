package sink

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

func TestTheSocketGivesTheRawValue(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot", "other")
	d.publish(t, version("bot", 1), byName["bot"])
	d.publish(t, version("other", 4), byName["other"])
	a := get(t, s, "/v1/tokens/bot")
	if a.code != 200 || a.body != secret("bot", 1).Reveal() {
		t.Errorf("answer %d of %d bytes", a.code, len(a.body))
	}
	for name, want := range map[string]string{"Content-Type": "text/plain; charset=utf-8", "Etag": `"abc-1"`, "Cache-Control": "no-store"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	head := ask(t, client(t, s.Path()), http.MethodHead, "/v1/tokens/bot")
	if head.code != 200 || head.body != "" || head.header.Get("Content-Length") != a.header.Get("Content-Length") || head.header.Get("Etag") != `"abc-1"` {
		t.Errorf("HEAD: %d %q %v", head.code, head.body, head.header)
	}
	if a := get(t, s, "/v1/tokens/other"); a.body != secret("other", 4).Reveal() {
		t.Error("the other token is not the other token")
	}
}

func TestTheSocketTellsAllItKnowsAsJSON(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot", "oauth")
	v := version("bot", 1)
	v.Value = refresher.NewValue("t1.x")
	d.publish(t, v, byName["bot"])
	d.set(func() { d.now = start.Add(time.Hour + 500*time.Millisecond) })
	a := get(t, s, "/v1/tokens/bot", "Accept", "application/json")
	want := `{"name":"bot","value":"t1.x","type":"iam","expires_at":"2026-09-02T00:00:00Z","expires_in":39599,"lineage":"abc",` +
		`"version":1,"published_at":"2026-09-01T12:00:00Z","verified_at":"2026-09-01T12:00:00Z","verdict":"accepted"}` + "\n"
	if a.code != 200 || a.body != want || a.header.Get("Content-Type") != "application/json" || a.header.Get("Etag") != `"abc-1"` {
		t.Errorf("answer %d %s%v\nwant %s", a.code, a.body, a.header, want)
	}

	v = refresher.Version{Token: "oauth", Lineage: "l", N: 2, Value: refresher.NewValue("y0"), Type: refresher.TypeOAuth, PublishedAt: start}
	d.publish(t, v, byName["oauth"])
	d.set(func() { d.status["oauth"] = refresher.Status{Version: &v, Health: refresher.Unchecked} })
	a = get(t, s, "/v1/tokens/oauth", "Accept", "text/html, application/json;q=0.9")
	want = `{"name":"oauth","value":"y0","type":"oauth","expires_at":null,"expires_in":null,"lineage":"l",` +
		`"version":2,"published_at":"2026-09-01T12:00:00Z","verified_at":null,"verdict":"unproven"}` + "\n"
	if a.body != want {
		t.Errorf("answer %s\nwant %s", a.body, want)
	}
}

func TestNothingValidIsA503ThatSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*daemon, *refresher.Status)
		reason string
		state  refresher.Health
		retry  string
	}{
		"pending": {func(_ *daemon, st *refresher.Status) {
			*st = refresher.Status{Health: refresher.Pending, LastFailure: "IAM is unreachable", NextRefresh: start.Add(4500 * time.Millisecond)}
		}, "there is no value yet: IAM is unreachable", refresher.Pending, "5"},
		"revoked": {func(_ *daemon, st *refresher.Status) {
			st.Health, st.Reason, st.NextRefresh, st.NextProbe = refresher.Revoked, "refreshing", start.Add(time.Hour), start.Add(7*time.Second)
		}, "the value was revoked and there is no other yet: refreshing", refresher.Revoked, "7"},
		"expired": {func(d *daemon, st *refresher.Status) {
			d.now = start.Add(12 * time.Hour)
			st.NextRefresh = start
		}, "the value has expired", refresher.Expired, "1"},
		"nothing planned": {func(_ *daemon, st *refresher.Status) { st.Health = refresher.Revoked }, "revoked", refresher.Revoked, "10"},
		"planned late": {func(_ *daemon, st *refresher.Status) {
			st.Health, st.NextRefresh = refresher.Revoked, start.Add(time.Hour)
		}, "revoked", refresher.Revoked, "60"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon()
			s, byName := serve(t, d, "bot")
			d.publish(t, version("bot", 1), byName["bot"])
			if name == "pending" {
				byName["bot"] = endpoint(t, s, "bot", nil)
				s.Update(byName["bot"])
			}
			d.set(func() {
				st := d.status["bot"]
				c.change(d, &st)
				d.status["bot"] = st
			})
			for _, path := range []string{"/v1/tokens/bot", servicePath + "bot/token"} {
				a := get(t, s, path, "Metadata-Flavor", "Google")
				var p problem
				must(t, json.Unmarshal([]byte(a.body), &p))
				if a.code != 503 || p.Error != "unavailable" || !strings.Contains(p.Reason, c.reason) || p.State != c.state || a.header.Get("Retry-After") != c.retry {
					t.Errorf("%s: %d %+v, Retry-After %s", path, a.code, p, a.header.Get("Retry-After"))
				}
			}
		})
	}
}

func TestStatesThatAreServedAreServed(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	for _, health := range []refresher.Health{refresher.Fresh, refresher.Unchecked, refresher.Unverified, refresher.NoAccess} {
		d.set(func() {
			st := d.status["bot"]
			st.Health = health
			d.status["bot"] = st
		})
		if a := get(t, s, "/v1/tokens/bot"); a.code != 200 {
			t.Errorf("%s: %d %s", health, a.code, a.body)
		}
	}
}

// The daemon changes its snapshot before it tells the sinks, and sinks one
// after the other.
func TestARenewalIsWithoutAGap(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	for name, c := range map[string]struct {
		snapshot, published uint64
		want                uint64
		revoked             bool
	}{
		"the snapshot is ahead":                        {snapshot: 5, published: 4, want: 5},
		"the snapshot is ahead after a revocation":     {snapshot: 5, published: 4, want: 5},
		"the sink is ahead":                            {snapshot: 4, published: 5, want: 5},
		"the sink is ahead and the old one is refused": {snapshot: 4, published: 5, want: 5, revoked: true},
		"both are there":                               {snapshot: 5, published: 5, want: 5},
		"both are there and refused":                   {snapshot: 5, published: 5, want: 0, revoked: true},
		"only the snapshot":                            {snapshot: 5, want: 5},
		"only the sink":                                {published: 5, want: 5},
	} {
		byName["bot"] = endpoint(t, s, "bot", nil)
		s.Update(byName["bot"])
		if c.published > 0 {
			must(t, byName["bot"].Publish(t.Context(), version("bot", c.published)))
		}
		d.set(func() {
			st := refresher.Status{Token: "bot", Health: refresher.Pending}
			if c.snapshot > 0 {
				v := version("bot", c.snapshot)
				st.Version, st.Health = &v, refresher.Fresh
			}
			if c.revoked {
				st.Health = refresher.Revoked
			}
			d.status["bot"] = st
		})
		a := get(t, s, "/v1/tokens/bot")
		switch {
		case c.want == 0:
			wantAnswer(t, a, 503, "revoked")
		case a.body != secret("bot", c.want).Reveal():
			t.Errorf("%s: answer %d %s", name, a.code, a.header.Get("Etag"))
		}
	}
	d.set(func() { d.now = start.Add(13 * time.Hour) })
	must(t, byName["bot"].Publish(t.Context(), version("bot", 9)))
	wantAnswer(t, get(t, s, "/v1/tokens/bot"), 503, "expired")
	d.set(func() { delete(d.status, "bot") })
	wantAnswer(t, get(t, s, "/v1/tokens/bot"), 503, "there is no value yet")
}

func TestAnotherLineageReplacesWhatTheSinkHolds(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 9), byName["bot"])
	other := version("bot", 1)
	other.Lineage = "new"
	d.publish(t, other)
	if a := get(t, s, "/v1/tokens/bot"); a.header.Get("Etag") != `"new-1"` || a.body != other.Value.Reveal() {
		t.Errorf("answer %d %s", a.code, a.header.Get("Etag"))
	}
}

func TestTheMetadataRouteAnswersAsTheCloud(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	v := version("bot", 1)
	v.Value = refresher.NewValue(`t1."x"`)
	d.publish(t, v, byName["bot"])
	for _, name := range []string{"bot", "default"} {
		a := get(t, s, servicePath+name+"/token", "Metadata-Flavor", "Google")
		want := `{"access_token":"t1.\"x\"","expires_in":43200,"token_type":"Bearer"}`
		if a.code != 200 || a.body != want || a.header.Get("Content-Type") != "application/json" || a.header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%s: %d %s %v", name, a.code, a.body, a.header)
		}
	}
	wantAnswer(t, get(t, s, servicePath+"bot/token"), 403, "Metadata-Flavor: Google")
	wantAnswer(t, get(t, s, servicePath+"bot/token", "Metadata-Flavor", "google"), 403, "forbidden")
	wantAnswer(t, get(t, s, servicePath+"nobody/token", "Metadata-Flavor", "Google"), 404, "not_found")

	v.ExpiresAt, v.N = time.Time{}, 2
	d.publish(t, v, byName["bot"])
	wantAnswer(t, get(t, s, servicePath+"bot/token", "Metadata-Flavor", "Google"), 200, `"expires_in":60,`)
	v.Type, v.N = refresher.TypeOAuth, 3
	d.publish(t, v, byName["bot"])
	wantAnswer(t, get(t, s, servicePath+"bot/token", "Metadata-Flavor", "Google"), 404, "not_found")
}

func TestTheDefaultTokenIsTheMarkedOrTheOnlyOne(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "a", "b")
	d.publish(t, version("a", 1), byName["a"])
	d.publish(t, version("b", 1), byName["b"])
	service := func(name string) answer { return get(t, s, servicePath+name+"/token", "Metadata-Flavor", "Google") }
	wantAnswer(t, service("default"), 404, "not_found")
	marked, err := s.For("b", nil, true, accounts())
	must(t, err)
	s.Update(byName["a"], marked)
	wantAnswer(t, service("default"), 200, "t1.b-1.")
	s.Update(byName["a"])
	wantAnswer(t, service("default"), 200, "t1.a-1.")
	named := endpoint(t, s, "default", nil)
	d.publish(t, version("default", 1), named)
	s.Update(byName["a"], marked, named)
	wantAnswer(t, service("default"), 200, "t1.default-1.")
}

func TestTheListHoldsADocumentPerToken(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "b", "a", "c")
	d.publish(t, version("b", 1), byName["b"])
	a := get(t, s, "/v1/tokens")
	want := `{"tokens":[{"name":"a","state":"pending"},{"name":"b","state":"fresh"},{"name":"c","state":"pending"}]}` + "\n"
	if a.code != 200 || a.body != want {
		t.Errorf("answer %d %s, want %s", a.code, a.body, want)
	}
}

func TestAReportIsPassedOnOnlyForTheCurrentVersion(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot", "none")
	d.publish(t, version("bot", 2), byName["bot"])
	c := client(t, s.Path())
	report := func(headers ...string) answer { return ask(t, c, "POST", "/v1/tokens/bot/report", headers...) }

	wantAnswer(t, report("If-Match", `"abc-1"`), 200, `"result":"outdated"`)
	wantAnswer(t, report("If-Match", `"xyz-2"`), 200, `"etag":"abc-2"`)
	wantAnswer(t, report(), 400, "If-Match")
	wantAnswer(t, report("body", "not JSON"), 400, "the body is not")
	wantAnswer(t, report("body", `{"etag":"`+strings.Repeat("x", maxBody)+`"}`), 400, "the body is not")
	wantAnswer(t, ask(t, c, "POST", "/v1/tokens/none/report", "If-Match", `"abc-1"`), 200, "there is no version now")
	if len(d.reports) > 0 {
		t.Fatalf("passed on: %v", d.reports)
	}
	for i, headers := range [][]string{{"If-Match", `"abc-2"`}, {"If-Match", "abc-2"}, {"If-Match", `W/"abc-2"`}, {"body", `{"etag":"\"abc-2\""}`}, {"body", `{"etag":"abc-2"}`}} {
		d.set(func() { d.now = start.Add(time.Duration(i) * 2 * time.Second) })
		for range 5 {
			wantAnswer(t, report(headers...), 202, `"result":"probing"`)
		}
	}
	if want := strings.Repeat("bot abc-2 ", 5); strings.Join(d.reports, " ")+" " != want {
		t.Errorf("passed on %v, want one in two seconds", d.reports)
	}
	d.publish(t, version("bot", 3), byName["bot"])
	wantAnswer(t, report("If-Match", `"abc-3"`), 202, "probing")
	if n := len(d.reports); n != 6 {
		t.Errorf("a report about a new version was held back: %v", d.reports)
	}
}

func TestOrdersAreCarriedOutForOurselves(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, _ := serve(t, d, "bot")
	c := client(t, s.Path())
	d.reload = func() (string, error) { return "2 tokens added", nil }
	wantAnswer(t, ask(t, c, "POST", "/v1/reload"), 200, `{"result":"reloaded","reason":"2 tokens added"}`)
	d.reload = func() (string, error) { return "", errors.New("line 3: unknown key") }
	wantAnswer(t, ask(t, c, "POST", "/v1/reload"), 422, `{"error":"refused","reason":"line 3: unknown key"}`)

	for result, code := range map[refresher.RefreshResult]int{
		refresher.ResultPublished: 200, refresher.ResultUnchanged: 200, refresher.ResultHeld: 200,
		refresher.ResultRejected: 502, refresher.ResultFailed: 502,
	} {
		d.set(func() { d.result = result })
		wantAnswer(t, ask(t, c, "POST", "/v1/tokens/bot/refresh"), code, `{"result":"`+string(result)+`","reason":"because"}`)
	}
	wantAnswer(t, ask(t, c, "POST", "/v1/tokens/nope/refresh"), 404, "not_found")
	if got := len(d.refreshed); got != 5 {
		t.Errorf("refreshed %v", d.refreshed)
	}
}

func TestWhatIsNotARouteIsRefused(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	c := client(t, s.Path())
	for _, path := range []string{
		"/", "/v1", "/v1/tokens/", "/v1/tokens/nope", "/v1/tokens/bot/", "/v1/tokens/bot/x", "/v1/tokens/bot/report/x", "/v1/reload/",
		"/v2/tokens/bot", "/computeMetadata/v1/", servicePath + "token", servicePath + "bot", servicePath + "a/b/token", "//v1/tokens/bot", "/v1/tokens/../tokens/bot",
	} {
		wantAnswer(t, ask(t, c, "GET", path, "Metadata-Flavor", "Google"), 404, "not_found")
	}
	for request, allow := range map[string]string{
		"POST /v1/tokens":                   "GET, HEAD",
		"PUT /v1/tokens/bot":                "GET, HEAD",
		"DELETE /v1/tokens/nope":            "GET, HEAD",
		"POST " + servicePath + "bot/token": "GET, HEAD",
		"GET /v1/reload":                    "POST",
		"GET /v1/tokens/bot/report":         "POST",
		"GET /v1/tokens/bot/refresh":        "POST",
		"OPTIONS /v1/tokens/bot":            "GET, HEAD",
	} {
		method, path, _ := strings.Cut(request, " ")
		a := ask(t, c, method, path)
		wantAnswer(t, a, 405, "use "+allow)
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow: %q, want %q", request, got, allow)
		}
	}
}

func TestReadsAreCounted(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	get(t, s, "/v1/tokens/bot")
	d.publish(t, version("bot", 1), byName["bot"])
	get(t, s, "/v1/tokens/bot")
	get(t, s, servicePath+"default/token", "Metadata-Flavor", "Google")
	get(t, s, "/v1/tokens/bot", "If-None-Match", `"abc-1"`)
	want := map[string]uint64{"ok": 2, "not_modified": 1, "unavailable": 1, "forbidden": 0}
	if got := byName["bot"].Reads(); !reflect.DeepEqual(got, want) {
		t.Errorf("reads %v, want %v", got, want)
	}
}

func TestTheLogHoldsNoValue(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	var l logs
	s := newServer(t, d, ServerOptions{Log: l.logger()})
	e := endpoint(t, s, "bot", nil)
	s.Update(e)
	must(t, s.Listen())
	v := version("bot", 1)
	v.Type = refresher.TypeOAuth
	d.publish(t, v, e)
	for _, path := range []string{"/v1/tokens/bot", servicePath + "bot/token", "/v1/tokens/" + v.Value.Reveal()} {
		get(t, s, path, "Metadata-Flavor", "Google", "Accept", "application/json")
	}
	if !strings.Contains(l.String(), "asked for an OAuth token on a metadata route") {
		t.Errorf("the log does not say why an OAuth token is not found: %s", l.String())
	}
	if strings.Contains(l.String(), "t1.") {
		t.Error("the log holds the value")
	}
}

func TestTheDefaultIsReadWithoutItsName(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s := newServer(t, d, ServerOptions{Socket: SocketOptions{Mode: 0o666}})
	bot := endpoint(t, s, "bot", nil)
	other, err := s.For("other", nil, true, accounts())
	must(t, err)
	must(t, s.Listen())
	d.publish(t, version("bot", 1), bot)
	d.publish(t, version("other", 1), other)
	for name, c := range map[string]struct {
		endpoints []*Endpoint
		code      int
		token     string
	}{
		"the only one":         {[]*Endpoint{bot}, 200, "bot"},
		"the one marked":       {[]*Endpoint{bot, other}, 200, "other"},
		"none of several":      {[]*Endpoint{bot, endpoint(t, s, "third", nil)}, 404, "not_found"},
		"one that is so named": {[]*Endpoint{other, endpoint(t, s, "default", nil)}, 503, "unavailable"},
	} {
		s.Update(c.endpoints...)
		a := get(t, s, "/v1/tokens/default", "Accept", "application/json")
		if a.code != c.code || !strings.Contains(a.body, `"`+c.token+`"`) {
			t.Errorf("%s: %d with %d bytes, want %d with %q", name, a.code, len(a.body), c.code, c.token)
		}
	}
	s.Update(bot, other)
	a := get(t, s, "/v1/tokens/default", "If-None-Match", `"abc-1"`, "Prefer", "wait=1")
	if a.code != http.StatusNotModified {
		t.Errorf("a wait for the default: %d", a.code)
	}
}
