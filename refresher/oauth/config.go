package oauth

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/httpanswer"
)

// DefaultURL is where Yandex OAuth lives: https://yandex.com/dev/id/doc/en/
const DefaultURL = "https://oauth.yandex.com"

// Config is what everything here shares. The zero Config is the real service.
type Config struct {
	// URL is the service's address without a final slash; empty: DefaultURL.
	URL string
	// HTTP decides about proxies and CA roots, and belongs to the caller; nil:
	// http.DefaultTransport. Redirects are never followed.
	HTTP http.RoundTripper
	// UserAgent is sent with each request; empty: Go's own.
	UserAgent string
	// Clock is wall time without a monotonic reading; nil: the system's.
	Clock func() time.Time
	// Log takes warnings; nil: none.
	Log *slog.Logger
	// Logins is shared by all sources of a process; nil: each has its own, and
	// they keep apart by the lock files alone.
	Logins *Logins
}

func (c Config) withDefaults() Config {
	if c.URL == "" {
		c.URL = DefaultURL
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	if c.HTTP == nil {
		c.HTTP = http.DefaultTransport
	}
	if c.Clock == nil {
		c.Clock = func() time.Time { return time.Now().Round(0) }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Logins == nil {
		c.Logins = &Logins{}
	}
	return c
}

// App is a registered application: https://oauth.yandex.com/client/new/
type App struct {
	ClientID string
	Secret   refresher.Value // none for what needs none
}

// application is an App at a service.
type application struct {
	Config
	app      App
	protocol oauth2.Config
}

func newApplication(c Config, app App) *application {
	c = c.withDefaults()
	return &application{Config: c, app: app, protocol: oauth2.Config{
		ClientID: app.ClientID, ClientSecret: app.Secret.Reveal(),
		Endpoint: oauth2.Endpoint{
			AuthURL: c.URL + "/authorize", TokenURL: c.URL + "/token", DeviceAuthURL: c.URL + "/device/code",
			// Said, and not found out: a second try would be refused, since the
			// first used up the code or refresh token.
			AuthStyle: oauth2.AuthStyleInParams,
		},
	}}
}

// note is what a RoundTripper saw of the last answer beside what the protocol's
// library makes of it.
type note struct {
	mu         sync.Mutex
	answered   bool
	status     int
	serverTime time.Time
	retryAfter time.Duration
}

// talk returns a context for the protocol's library, which sends through it,
// and the note of what came back.
func (a *application) talk(ctx context.Context) (context.Context, *note) {
	n := &note{}
	client := &http.Client{
		Timeout:       exchangeTimeout, // the library does not pass ctx on everywhere
		Transport:     &noting{to: a.HTTP, agent: a.UserAgent, now: a.Clock, note: n},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return context.WithValue(ctx, oauth2.HTTPClient, client), n
}

// exchangeTimeout is how long one answer may take.
const exchangeTimeout = 30 * time.Second

type noting struct {
	to    http.RoundTripper
	agent string
	now   func() time.Time
	note  *note
}

// RoundTrip implements [http.RoundTripper].
func (t *noting) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if t.agent != "" {
		req.Header.Set("User-Agent", t.agent)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := t.to.RoundTrip(req)
	t.note.mu.Lock()
	defer t.note.mu.Unlock()
	t.note.answered, t.note.status, t.note.serverTime, t.note.retryAfter = err == nil, 0, time.Time{}, 0
	if err == nil {
		resp.Body = notNull(resp.Body)
		t.note.status = resp.StatusCode
		t.note.serverTime = httpanswer.Date(resp.Header)
		t.note.retryAfter = httpanswer.RetryAfter(resp.Header, t.now())
	}
	return resp, err
}

// notNull replaces a body that is the JSON null, for which the library has a nil
// pointer that it then follows. More than it reads is not looked at.
func notNull(body io.ReadCloser) io.ReadCloser {
	const most = 1 << 20
	text, err := io.ReadAll(io.LimitReader(body, most))
	if string(bytes.TrimSpace(text)) == "null" {
		text = []byte("{}")
	}
	// A body that broke off does so again, for whoever reads it.
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(text), broken{err}, body), body}
}

// broken fails where err is not nil.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	return 0, io.EOF
}

// maxSkew is from what on the server's clock counts and not ours.
const maxSkew = 30 * time.Second

// granted makes a login of an answer of the token endpoint.
func (a *application) granted(t *oauth2.Token, n *note) (Login, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := a.Clock()
	if !n.serverTime.IsZero() && at.Sub(n.serverTime).Abs() > maxSkew {
		at = n.serverTime
	}
	l := Login{ClientID: a.app.ClientID, IssuedAt: at.Truncate(time.Second)}
	switch {
	case t.ExpiresIn < 0, t.ExpiresIn == 0 && t.Extra("expires_in") != nil:
		l.ExpiresAt = l.IssuedAt // else it would be one that lives for ever
	case t.ExpiresIn > 0 && t.ExpiresIn < maxLifetime:
		l.ExpiresAt = l.IssuedAt.Add(time.Duration(t.ExpiresIn) * time.Second)
	}
	var err error
	if l.Access, err = clean(t.AccessToken); err == nil && t.RefreshToken != "" {
		l.Refresh, err = clean(t.RefreshToken)
	}
	return l, err
}

// maxLifetime bounds what is taken for a lifetime, in seconds: a hundred years.
const maxLifetime = 100 * 365 * 86400
