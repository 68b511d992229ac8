package sink

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

// TestMain lets the test binary be another process: see [readerProcess].
func TestMain(m *testing.M) {
	if kind := os.Getenv("SINK_TEST_READER"); kind != "" {
		os.Exit(readerProcess(kind, os.Getenv("SINK_TEST_PATH")))
	}
	os.Exit(m.Run())
}

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// daemon stands in for the running daemon behind [Live].
type daemon struct {
	mu        sync.Mutex
	now       time.Time
	status    map[string]refresher.Status
	reports   []string
	refreshed []string
	witnessed []string
	witness   func(refresher.Status) // what comes of it
	awaited   chan struct{}          // where set, receives when somebody awaits
	changed   chan struct{}          // closed at the next change
	reload    func() (string, error)
	result    refresher.RefreshResult
}

func newDaemon() *daemon {
	return &daemon{changed: make(chan struct{}), now: start, status: map[string]refresher.Status{}, result: refresher.ResultPublished}
}

func (d *daemon) live() Live {
	return Live{
		Now: func() time.Time {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.now
		},
		Describe: func(readable []refresher.Status, now time.Time) any {
			docs := []any{}
			for _, st := range readable {
				docs = append(docs, map[string]any{"name": st.Token, "state": st.HealthAt(now)})
			}
			return map[string]any{"tokens": docs}
		},
		Snapshot: func(token string) (refresher.Status, bool) {
			d.mu.Lock()
			defer d.mu.Unlock()
			st, ok := d.status[token]
			return st, ok
		},
		Report: func(token, lineage string, n uint64) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.reports = append(d.reports, fmt.Sprintf("%s %s-%d", token, lineage, n))
		},
		Witness: func(_ context.Context, token, lineage string, n uint64) {
			d.mu.Lock()
			d.witnessed = append(d.witnessed, fmt.Sprintf("%s %s-%d", token, lineage, n))
			witness, st := d.witness, d.status[token]
			d.mu.Unlock()
			if witness != nil {
				witness(st)
			}
		},
		Await: func(ctx context.Context, token string, done func(refresher.Status) bool) (refresher.Status, error) {
			if d.awaited != nil {
				d.awaited <- struct{}{}
			}
			for {
				d.mu.Lock()
				st, changed := d.status[token], d.changed
				d.mu.Unlock()
				if done(st) {
					return st, nil
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return refresher.Status{}, ctx.Err()
				}
			}
		},
		Refresh: func(_ context.Context, token string) (refresher.RefreshResult, string, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.refreshed = append(d.refreshed, token)
			return d.result, "because", nil
		},
		Reload: func(context.Context) (string, error) { return d.reload() },
	}
}

func (d *daemon) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	close(d.changed)
	d.changed = make(chan struct{})
}

// publish does what the daemon does: first its snapshot, then the sinks.
func (d *daemon) publish(t testing.TB, v refresher.Version, sinks ...refresher.Sink) {
	t.Helper()
	d.set(func() {
		d.status[v.Token] = refresher.Status{
			Token: v.Token, Version: &v, Health: refresher.Fresh, VerifiedAt: v.PublishedAt,
			Proof: refresher.Finding{Verdict: refresher.Accepted},
		}
	})
	for _, s := range sinks {
		if err := s.Publish(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
}

func version(token string, n uint64) refresher.Version {
	return refresher.Version{
		Token: token, Lineage: "abc", N: n, Value: secret(token, n), Type: refresher.TypeIAM,
		ExpiresAt: start.Add(12 * time.Hour), PublishedAt: start,
	}
}

// secret is long enough for a torn read to show.
func secret(token string, n uint64) refresher.Value {
	return refresher.NewValue(fmt.Sprintf("t1.%s-%d.%s", token, n, strings.Repeat(fmt.Sprintf("%03d", n%1000), 300+int(n%7))))
}

func accounts() *Accounts {
	find := func(known map[string]int) func(string) (int, error) {
		return func(name string) (int, error) {
			if id, ok := known[name]; ok {
				return id, nil
			}
			return 0, errNoAccount
		}
	}
	return newAccounts(
		find(map[string]int{"grafana": 1234, "nobody": 65534}),
		find(map[string]int{"bots": 2345, "users": 3456}))
}

// logs collects what a server logs.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// socketDir is a short path that everybody can pass.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sink")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func socketPath(t testing.TB) string { return filepath.Join(socketDir(t), "s") }

// newServer makes a server that does not listen.
func newServer(t testing.TB, d *daemon, o ServerOptions) *Server {
	t.Helper()
	if o.Socket.Path == "" {
		o.Socket.Path = socketPath(t)
	}
	if o.Accounts == nil {
		o.Accounts = accounts()
	}
	if o.Live.Now == nil {
		o.Live = d.live()
	}
	s, err := NewServer(o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	return s
}

// serve makes a listening server of the tokens.
func serve(t testing.TB, d *daemon, tokens ...string) (*Server, map[string]*Endpoint) {
	t.Helper()
	s := newServer(t, d, ServerOptions{Socket: SocketOptions{Mode: 0o666}})
	byName := map[string]*Endpoint{}
	var all []*Endpoint
	for _, token := range tokens {
		e := endpoint(t, s, token, nil)
		byName[token] = e
		all = append(all, e)
	}
	s.Update(all...)
	must(t, s.Listen())
	return s, byName
}

func endpoint(t testing.TB, s *Server, token string, allow *Allow) *Endpoint {
	t.Helper()
	e, err := s.For(token, allow, false, accounts())
	must(t, err)
	return e
}

// client speaks to a socket, over kept connections.
func client(t testing.TB, path string) *http.Client {
	t.Helper()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends one request; headers are pairs of name and value.
func ask(t testing.TB, c *http.Client, method, url string, headers ...string) answer {
	t.Helper()
	a, err := try(t.Context(), c, method, url, headers...)
	must(t, err)
	return a
}

func try(ctx context.Context, c *http.Client, method, url string, headers ...string) (answer, error) {
	if !strings.HasPrefix(url, "http") {
		url = "http://localhost" + url
	}
	var body io.Reader
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "body":
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(headers[i+1])), int64(len(headers[i+1]))
		case "Host":
			r.Host = headers[i+1]
		default:
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func get(t testing.TB, s *Server, path string, headers ...string) answer {
	t.Helper()
	return ask(t, client(t, s.Path()), http.MethodGet, path, headers...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func wantAnswer(t testing.TB, a answer, code int, body string) {
	t.Helper()
	if a.code != code || !strings.Contains(a.body, body) {
		t.Errorf("answer %d %s, want %d with %q", a.code, a.body, code, body)
	}
}
