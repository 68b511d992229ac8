package oauth

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// world is an emulated cloud with a login in a file, and a clock that both sides
// have.
type world struct {
	*emulator.Emulator
	t      testing.TB
	dir    string
	config Config

	mu     sync.Mutex
	offset time.Duration
}

func newWorld(t testing.TB, o emulator.Options) *world {
	t.Helper()
	dir := t.TempDir()
	o.Dir = filepath.Join(dir, "cloud")
	e, err := emulator.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: e.TLS()}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = e.Close()
	})
	w := &world{Emulator: e, t: t, dir: dir}
	w.config = Config{URL: e.Endpoints().OAuth, HTTP: transport, Clock: w.now, UserAgent: "test/1"}
	w.write("secret", emulator.ClientSecret+"\n")
	w.login()
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Round(0).Add(w.offset)
}

// later lets time pass.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.offset += d
	offset := w.offset
	w.mu.Unlock()
	w.try(w.SetClockOffset(offset))
}

func (w *world) try(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	w.try(os.WriteFile(w.path(name), []byte(text), 0o600))
}

// login stores a new login.
func (w *world) login() Login {
	w.t.Helper()
	got := w.NewLogin("")
	l := Login{
		ClientID: emulator.ClientID, Access: refresher.NewValue(got.AccessToken), Refresh: refresher.NewValue(got.RefreshToken),
		IssuedAt: w.now().Truncate(time.Second), ExpiresAt: got.Expires,
	}
	w.try(writeLogin(w.path("login"), l))
	return l
}

func (w *world) stored() Login {
	w.t.Helper()
	l, err := readLogin(w.path("login"))
	w.try(err)
	return l
}

func (w *world) options() Options {
	return Options{ClientID: emulator.ClientID, ClientSecretFile: w.path("secret"), TokenFile: w.path("login")}
}

// source makes a source of a process of its own, unless config says otherwise.
func (w *world) source() *source {
	w.t.Helper()
	s, err := w.options().New(w.config)
	w.try(err)
	return s.(*source)
}

func (w *world) exchanges() int { return w.Calls()["oauth/token"] }

func (w *world) mint(s refresher.Source, refused ...refresher.Value) refresher.Minted {
	w.t.Helper()
	m, err := s.Mint(refresher.WithRefused(w.t.Context(), refused...))
	w.try(err)
	if m.Type != refresher.TypeOAuth {
		w.t.Errorf("it is of type %q", m.Type)
	}
	return m
}

// fails wants a mint to fail, with these words and no secrets.
func (w *world) fails(s refresher.Source, permanent bool, words string, refused ...refresher.Value) *refresher.Failure {
	w.t.Helper()
	_, err := s.Mint(refresher.WithRefused(w.t.Context(), refused...))
	if err == nil {
		w.t.Fatalf("it did not fail with %q", words)
	}
	f := refresher.AsFailure(err)
	if f.Permanent != permanent {
		w.t.Errorf("permanent is %v: %v", f.Permanent, err)
	}
	w.says(err, words)
	return f
}

func (w *world) says(err error, words string) {
	w.t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		w.t.Errorf("it does not say %q: %v", words, err)
		return
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, secret := range append(w.Issued(), emulator.ClientSecret) {
			if strings.Contains(e.Error(), secret) {
				w.t.Errorf("a secret is in the error: %v", err)
			}
		}
	}
}
