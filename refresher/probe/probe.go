// Package probe tries values on real APIs: on Tracker, or on any API that
// answers over HTTP.
//
// A probe is one GET. Its verdict is never an error: only what the API itself
// says of the value is accepted or rejected, and whatever stands in between (a
// proxy's page, a redirect, a limit, a timeout) is unknown.
package probe

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"iam-token-refresher/refresher"
)

// DefaultTrackerURL is where Tracker's API lives:
// https://yandex.ru/support/tracker/en/common-format
const DefaultTrackerURL = "https://api.tracker.yandex.net"

// The schemes of Tracker's Authorization header:
// https://yandex.ru/support/tracker/en/api-ref/access
const (
	SchemeBearer = "Bearer" // IAM tokens
	SchemeOAuth  = "OAuth"  // Yandex OAuth tokens
)

// Config is what a probe is given by the program around it.
type Config struct {
	// Client brings the TLS roots and the proxy. It is copied: the probe
	// neither follows redirects nor keeps cookies, whatever Client does. Nil
	// means http.DefaultTransport.
	Client *http.Client
	// TrackerURL is Tracker's address without the path of a method; empty
	// means DefaultTrackerURL.
	TrackerURL string
	// UserAgent is sent with each request; empty means Go's own.
	UserAgent string
	// Scheme is that of Tracker's Authorization header; empty means
	// SchemeBearer.
	Scheme string
}

// Tracker is the address of Tracker's API, without the path of a method.
func (c Config) Tracker() (*url.URL, error) {
	raw := c.TrackerURL
	if raw == "" {
		raw = DefaultTrackerURL
	}
	base, err := checkURL("", raw)
	if err != nil {
		return nil, fmt.Errorf("address of Tracker: %w", err)
	}
	return base, nil
}

// client returns a client that keeps credentials where they were sent.
func (c Config) client() *http.Client {
	var own http.Client
	if c.Client != nil {
		own = *c.Client
	}
	own.Jar = nil
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// checkURL parses an address that credentials may be sent to.
func checkURL(field, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own message quotes the address, and with it a password
		// or a key that somebody put there.
		return nil, &refresher.Invalid{Field: field, Problem: "is not a URL: write https://host/path"}
	}
	if u.User != nil {
		return nil, &refresher.Invalid{Field: field, Problem: "must not hold a user or password"}
	}
	if u.Hostname() == "" {
		return nil, &refresher.Invalid{Field: field, Problem: "names no host: write https://host/path"}
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !isLoopback(u.Hostname()) {
			return nil, &refresher.Invalid{
				Field:   field,
				Problem: fmt.Sprintf("would send the token in the clear to %s: use https:// (http:// is for loopback addresses only)", u.Host),
			}
		}
	default:
		return nil, &refresher.Invalid{Field: field, Problem: "must begin with https://"}
	}
	u.Fragment = ""
	if u.Path == "" {
		u.Path = "/" // JoinPath would make a relative path of none
	}
	return u, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// hostPort is what probes of one API have in common: they share a rate limit.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// invalid returns nil for no mistakes at all.
func invalid(mistakes []error) error { return errors.Join(mistakes...) }
