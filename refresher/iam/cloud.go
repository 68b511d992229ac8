package iam

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"iam-token-refresher/refresher/process"
)

// Config is what the sources of one [Cloud] share. The zero Config is the real
// cloud with the system's CA roots.
type Config struct {
	// Endpoints must be valid; empty fields get defaults.
	Endpoints Endpoints
	// TLS is cloned; nil means the system's CA roots.
	TLS *tls.Config
	// HTTP carries token exchanges and clock checks. It decides about proxies
	// and CA roots, and belongs to the caller. Nil means
	// [http.DefaultTransport]. It is never used for the metadata service,
	// which is reached without a proxy.
	HTTP http.RoundTripper
	// Clock is wall time without a monotonic reading; nil means the system's.
	Clock func() time.Time
	// Log takes warnings about keys and credentials; nil discards them.
	Log *slog.Logger
	// Processes starts the commands of sources; nil starts them without an owner.
	Processes *process.Owner
	// Version goes into the user agent; empty means "dev".
	Version string
}

// Cloud is Yandex Cloud at one set of endpoints, shared by all sources that are
// built on it. Its methods may be called concurrently. Close it after the last
// mint.
type Cloud struct {
	endpoints Endpoints
	userAgent string
	now       func() time.Time
	log       *slog.Logger
	processes *process.Owner

	iam      connection
	http     *http.Client // token exchange, clock checks; follows no redirects
	metadata *http.Client // no proxy, no connection kept

	keys    keyMemo
	signing turns
}

// New makes a Cloud. It neither dials nor starts goroutines.
func New(cfg Config) *Cloud {
	c := &Cloud{
		endpoints: cfg.Endpoints.WithDefaults(),
		userAgent: userAgent(cfg.Version),
		now:       cfg.Clock,
		log:       cfg.Log,
		processes: cfg.Processes,
		signing:   newTurns(),
	}
	if c.now == nil {
		c.now = func() time.Time { return time.Now().Round(0) }
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	tlsConfig := &tls.Config{}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	c.iam = connection{address: c.endpoints.IAM, tls: tlsConfig, userAgent: c.userAgent, idleAfter: idleAfter}
	c.http = &http.Client{Transport: cfg.HTTP, CheckRedirect: refuseRedirects}
	c.metadata = &http.Client{CheckRedirect: refuseRedirects, Transport: &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: answerTimeout,
		TLSClientConfig:       tlsConfig.Clone(),
		DialContext:           (&net.Dialer{Timeout: metadataDialTimeout, KeepAlive: -1}).DialContext,
	}}
	return c
}

const (
	// connectTimeout is how long one address may take to accept a connection:
	// well below the 30 s of a mint, so that the error says who did not answer.
	connectTimeout = 10 * time.Second
	answerTimeout  = 20 * time.Second
	// metadataDialTimeout is short: the service is on the same host, and
	// elsewhere nobody answers at its address.
	metadataDialTimeout = 2 * time.Second
)

// Close closes the connections; a mint under way fails. It returns nil.
func (c *Cloud) Close() error {
	c.iam.close()
	return nil
}

func userAgent(version string) string {
	if version == "" {
		version = "dev"
	}
	return "iam-token-refresher/" + version
}

// refuseRedirects: credentials go to the configured address or nowhere.
func refuseRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// expiry turns a lifetime in an answer into wall time as the servers see it.
// The local clock is finer than a Date header, so it counts while it is right.
func (c *Cloud) expiry(answered, serverTime time.Time, seconds int64) time.Time {
	if isSkewed(answered, serverTime) {
		answered = serverTime
	}
	return answered.Truncate(time.Second).Add(time.Duration(seconds) * time.Second)
}
