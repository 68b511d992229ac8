package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/turns"
)

const (
	// proxyWait is how long a request waits for a value, in all.
	proxyWait = 5 * time.Second
	// refusalMost is how much of a 401 is read so that its connection can be
	// used again.
	refusalMost = 16 << 10
	copyBuffer  = 32 << 10
)

// forward sends the requests of one endpoint to its API.
type forward struct {
	endpoint *Endpoint
	hub      *hub
	up       Upstream
	origin   string // of the API: https://host
	dropped  map[string]bool
	proxy    *httputil.ReverseProxy
	wait     time.Duration // proxyWait, but in tests

	failing atomic.Bool // the API could not be reached, and it was said
	noted   turns.Rarely
}

// addressKey is of the context value that holds how the client names us.
type addressKey struct{}

func newForward(e *Endpoint, h *hub, up Upstream) *forward {
	f := &forward{
		endpoint: e, hub: h, up: up, wait: proxyWait, origin: up.URL.Scheme + "://" + up.URL.Host + strings.TrimSuffix(up.URL.Path, "/"),
		// Who asks is the token's owner, whatever a client brings along.
		dropped: map[string]bool{"Authorization": true, "Cookie": true},
	}
	for name := range up.Header {
		f.dropped[http.CanonicalHeaderKey(name)] = true
	}
	for _, name := range up.Reserved {
		f.dropped[http.CanonicalHeaderKey(name)] = true
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:        f.rewrite,
		Transport:      f,
		FlushInterval:  -1,
		BufferPool:     &buffers{},
		ModifyResponse: f.answered,
		ErrorHandler:   f.failed,
		ErrorLog:       turns.ErrorLog(h.log),
	}
	return f
}

func (f *forward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Protocols to change to are between the client and us.
	r.Header.Del("Upgrade")
	f.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), addressKey{}, "http://"+r.Host)))
}

// rewrite makes the API's request of the client's. Hop-by-hop headers are gone
// already.
func (f *forward) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(f.up.URL)
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it is, whoever can parse it
	for name := range r.Out.Header {
		// Some servers read X_Org_ID as X-Org-ID.
		read := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if f.dropped[read] || strings.HasPrefix(read, "X-Forwarded-") {
			delete(r.Out.Header, name)
		}
	}
	for name, value := range f.up.Header {
		r.Out.Header.Set(name, value)
	}
}

// errClient says that a body could not be read from the client to its end.
var errClient = errors.New("the client sent nonsense or broke off")

// noValue says that there was nothing to ask with.
type noValue struct{ status refresher.Status }

func (*noValue) Error() string { return "there is no value" }

// RoundTrip implements [http.RoundTripper]: it sends a request with the value
// of the moment. A 401 is reported; a request without a body then waits for
// another value and is sent again, so that its client sees nothing of it. One
// with a body cannot be: the next waits until it is settled.
func (f *forward) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent *clientBody
	if r.Body != nil && r.Body != http.NoBody {
		sent = &clientBody{ReadCloser: r.Body}
	}
	w := waiter{forward: f, ctx: r.Context()}
	st, err := w.until(func(st refresher.Status) bool { return sent == nil || !st.Witnessed })
	if err != nil {
		return nil, err
	}
	for {
		v := st.Version
		out := r.WithContext(r.Context()) // a copy
		out.Header = r.Header.Clone()
		out.Header.Set("Authorization", scheme(v.Type)+v.Value.Reveal())
		if sent != nil {
			out.Body = sent
		}
		resp, err := f.up.Transport.RoundTrip(out)
		if err != nil {
			if sent != nil && sent.failed.Load() {
				err = errClient
			}
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			return resp, nil
		}
		f.hub.live.Witness(r.Context(), v.Token, v.Lineage, v.N)
		if sent != nil {
			return resp, nil
		}
		st, err = w.until(func(st refresher.Status) bool { return !sameVersion(st.Version, v) || !st.Witnessed })
		if err == nil && sameVersion(st.Version, v) {
			return resp, nil // it is not about the token, or nobody can tell
		}
		_, _ = io.CopyN(io.Discard, resp.Body, refusalMost)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
	}
}

func sameVersion(a, b *refresher.Version) bool { return a.N == b.N && a.Lineage == b.Lineage }

// scheme is that of the Authorization header:
// https://yandex.ru/support/tracker/en/api-ref/access
func scheme(valueType string) string {
	if valueType == refresher.TypeOAuth {
		return "OAuth "
	}
	return "Bearer "
}

// waiter is the patience of one request: proxyWait from the first wait on.
type waiter struct {
	*forward
	ctx      context.Context
	deadline time.Time
}

// until returns the status with a value that may be used, of which done is
// true unless that took too long. Without such a value it is a noValue.
func (w *waiter) until(done func(refresher.Status) bool) (refresher.Status, error) {
	live, token := &w.hub.live, w.endpoint.token
	usable := func(st refresher.Status) bool { return st.Version != nil && st.Servable(live.Now()) }
	both := func(st refresher.Status) bool { return usable(st) && done(st) }
	st, _ := live.Snapshot(token)
	if both(st) {
		return st, nil
	}
	if w.deadline.IsZero() {
		w.deadline = time.Now().Add(w.wait)
	}
	ctx, cancel := context.WithDeadline(w.ctx, w.deadline)
	defer cancel()
	defer w.hub.whenClosing(cancel)()
	if settled, err := live.Await(ctx, token, both); err == nil {
		return settled, nil
	}
	if err := w.ctx.Err(); err != nil {
		return st, err
	}
	if st, _ = live.Snapshot(token); usable(st) {
		return st, nil
	}
	return st, &noValue{st}
}

// answered looks at the API's answer before the client gets it.
func (f *forward) answered(resp *http.Response) error {
	if resp.StatusCode == http.StatusUnauthorized {
		f.endpoint.count(readRefused)
	} else {
		f.endpoint.count(readOK)
	}
	if f.failing.Load() && f.failing.CompareAndSwap(true, false) {
		f.hub.log.Info("the proxy reaches the API again", "sink", f.endpoint.id, "host", f.up.URL.Host)
	}
	// A cookie would be the token owner's, and is not needed: see dropped.
	delete(resp.Header, "Set-Cookie")
	// Pages of a list are linked by whole addresses.
	ours, _ := resp.Request.Context().Value(addressKey{}).(string)
	for _, name := range [...]string{"Link", "Location", "Content-Location"} {
		for i, value := range resp.Header[name] {
			resp.Header[name][i] = strings.ReplaceAll(value, f.origin+"/", ours+"/")
		}
	}
	return nil
}

// failed answers when there is no response from the API.
func (f *forward) failed(w http.ResponseWriter, r *http.Request, err error) {
	var none *noValue
	switch {
	case errors.As(err, &none):
		f.endpoint.count(readUnavailable)
		now := f.hub.live.Now()
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(none.status, now)))
		refuse(w, http.StatusServiceUnavailable, "no valid token to forward with: "+missing(none.status, now))
	case r.Context().Err() != nil, errors.Is(err, errClient):
		panic(http.ErrAbortHandler) // nobody is there to be told
	default:
		f.endpoint.count(readFailed)
		why := trouble(err)
		if f.noted.Now() && !f.failing.Swap(true) {
			f.hub.log.Warn("no response from the API; clients get 502", "sink", f.endpoint.id, "host", f.up.URL.Host, "error", why)
		}
		refuse(w, http.StatusBadGateway, "no answer of "+f.up.URL.Host+": "+why)
	}
}

// trouble says why there is no answer, without what the other end sent: the
// errors of net/http quote that.
func trouble(err error) string {
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return certificate.Error() + ": name the authority in ca_file if a proxy inspects TLS here"
	case errors.As(err, &network):
		return network.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "it takes too long"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before an answer came"
	}
	return "the connection broke, or what came is not HTTP"
}

// clientBody tells whose fault it is when a body ends too soon.
type clientBody struct {
	io.ReadCloser
	failed atomic.Bool
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(true)
	}
	return n, err
}

// buffers are those that answers pass through.
type buffers struct{ pool sync.Pool }

// Get implements [httputil.BufferPool].
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, copyBuffer)
}

// Put implements [httputil.BufferPool].
func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
