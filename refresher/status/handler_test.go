package status_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
)

func get(t *testing.T, s status.Source, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	status.Handler(s, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

func TestHealthIsToldInPlainText(t *testing.T) {
	t.Parallel()
	stuck := func() error { return errors.New("the loop has not turned for 2 min") }
	good, bad := source(token("bot")), source(token("bot", sinkFails), token("new", pending))
	deaf := good
	deaf.Alive = stuck
	ready := bad
	ready.Readiness = new(status.Readiness)
	ready.Readiness.Missing([]refresher.Status{token("bot")}, now)
	for name, c := range map[string]struct {
		source status.Source
		path   string
		code   int
		body   string
	}{
		"alive":           {good, "/livez", 200, "ok\n"},
		"stuck":           {deaf, "/livez", 503, "the loop has not turned for 2 min\n"},
		"alive, unready":  {bad, "/livez", 200, "ok\n"},
		"ready":           {good, "/readyz", 200, "ready\n"},
		"not ready":       {bad, "/readyz", 503, "bot: version 12 is not yet in file:/run/x/bot.token: write: permission denied: the directory must be writable for us\nnew: no value yet: there is no value yet\n"},
		"not ready again": {ready, "/readyz", 503, "new: no value yet: there is no value yet\n"},
		"something else":  {good, "/elsewhere", 404, "404 page not found\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := get(t, c.source, c.path)
			if got.Code != c.code || got.Body.String() != c.body {
				t.Errorf("got %d %q, want %d %q", got.Code, got.Body, c.code, c.body)
			}
			if ct := got.Header().Get("Content-Type"); ct != "text/plain; charset=utf-8" {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func TestOnlyGetIsServed(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		w := httptest.NewRecorder()
		status.Handler(source(token("bot")), slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
}

// full is a source with every metric.
func full(snapshots ...refresher.Status) status.Source {
	s := source(snapshots...)
	s.Durations = status.NewDurations()
	s.Durations.Mint(30 * time.Millisecond)
	s.Durations.Mint(3 * time.Second)
	s.Durations.Probe(7 * time.Millisecond)
	s.HookFailures = func(string) (uint64, bool) { return 2, true }
	s.Reloads = func() map[string]uint64 { return map[string]uint64{"applied": 3, "refused": 1} }
	s.ClockSkew = func() time.Duration { return -1500 * time.Millisecond }
	return s
}

func TestMetricsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	var kept strings.Builder
	for line := range strings.Lines(get(t, full(token("bot"), token("new", pending, optional)), "/metrics").Body.String()) {
		if !strings.Contains(line, "goversion") { // not ours to keep still
			kept.WriteString(line)
		}
	}
	golden(t, "metrics.txt", kept.String())
}

func TestMetricsFollowTheCustoms(t *testing.T) {
	t.Parallel()
	problems, err := promlint.New(get(t, full(everything()...), "/metrics").Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestExactlyOneStateIsSet(t *testing.T) {
	t.Parallel()
	text := get(t, full(everything()...), "/metrics").Body.String()
	for _, s := range everything() {
		if n := strings.Count(text, `iam_token_state{state="`+string(s.HealthAt(now))+`",token="`+s.Token+`"} 1`); n != 1 {
			t.Errorf("%s is not in state %s", s.Token, s.HealthAt(now))
		}
		if n := strings.Count(text, `",token="`+s.Token+`"} 0`); n < len(refresher.Healths)-1 {
			t.Errorf("%s: %d series are 0", s.Token, n)
		}
	}
}

func TestMetricsKeepNoTokenThatIsGone(t *testing.T) {
	t.Parallel()
	s := full()
	snapshots := []refresher.Status{token("bot"), token("old")}
	s.Snapshots = func() []refresher.Status { return snapshots }
	h := status.Handler(s, slog.New(slog.DiscardHandler))
	scrape := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	if !strings.Contains(scrape(), `token="old"`) {
		t.Error("a token is missing")
	}
	snapshots = snapshots[:1]
	if strings.Contains(scrape(), `token="old"`) {
		t.Error("a token that is gone has metrics")
	}
}

func TestScrapeGoesOnWithoutABadSeriesAndTellsTheLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := full(token("bot"), token("bot"), token("path\xff"))
	w := httptest.NewRecorder()
	status.Handler(s, slog.New(slog.NewTextHandler(&out, nil))).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), `iam_token_version{token="bot"} 12`) || !strings.Contains(w.Body.String(), `iam_token_version{token="path�"} 12`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(out.String(), "metrics are incomplete") {
		t.Errorf("the log says %q", out.String())
	}
}

func BenchmarkScrape(b *testing.B) {
	snapshots := make([]refresher.Status, 1000)
	for i := range snapshots {
		snapshots[i] = token("bot-" + time.Duration(i).String())
	}
	h := status.Handler(full(snapshots...), slog.New(slog.DiscardHandler))
	req := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
}
