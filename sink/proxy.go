package sink

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"iam-token-refresher/sink/peer"
	"iam-token-refresher/sink/turns"
)

// ProxyServerOptions make a [ProxyServer].
type ProxyServerOptions struct {
	Proxy ProxyOptions
	// Inherited is as in [ServerOptions].
	Inherited net.Listener
	Accounts  *Accounts
	Live      Live
	Log       *slog.Logger // nil: no log

	peerOf func(net.Conn) (peer.Peer, error) // nil: peer.Of; for tests
}

// ProxyServer forwards requests to an API with the value of one token: its
// clients hold none. It outlives changes of the configuration: where it
// forwards to, and for whom, can be replaced while it listens, and requests
// under way go on as they began.
type ProxyServer struct {
	*hub
	*unixSocket // nil on TCP
	listenOn    string
}

// Upstream is the API that a proxy forwards to.
type Upstream struct {
	// URL is the API's address; the paths of requests are below it.
	URL *url.URL
	// Header is what requests carry beside the token, such as the
	// organization. Clients cannot set these themselves.
	Header map[string]string
	// Reserved are further headers that clients cannot set.
	Reserved []string
	// Transport reaches the API. It must not ask for compressed answers by
	// itself.
	Transport http.RoundTripper
}

// NewProxyServer makes a ProxyServer that does not listen yet. An unknown user
// or group is a [*refresher.Invalid].
func NewProxyServer(o ProxyServerOptions) (*ProxyServer, error) {
	p := &ProxyServer{listenOn: o.Proxy.Listen}
	limits := turns.Options{Max: 1024, MaxPerUser: 512, Log: o.Log} // each connection here may have another to the API
	if o.Proxy.TCP() {
		p.hub = newHub(o.Live, limits)
		return p, nil
	}
	var err error
	if p.unixSocket, err = newUnixSocket(o.Proxy.Socket(), o.Inherited, o.Accounts); err != nil {
		return nil, err
	}
	if limits.Peer = o.peerOf; limits.Peer == nil {
		limits.Peer = peer.Of
	}
	p.hub = newHub(o.Live, limits)
	return p, nil
}

// For makes the place of a token, whose value requests get once it is the one
// of an [ProxyServer.Update]. allow nil lets everybody use it who may connect.
// An unknown user or group is a [*refresher.Invalid].
func (p *ProxyServer) For(token string, allow *Allow, accounts *Accounts, up Upstream) (*Endpoint, error) {
	a, err := allow.resolve(accounts)
	if err != nil {
		return nil, err
	}
	e := newEndpoint("proxy:"+p.listenOn, token, a, true, p.check)
	e.results = proxyResults
	e.forward = newForward(e, p.hub, up)
	e.keep = p.Keep
	return e, nil
}

// Update makes this the token that requests get, at once. Connections of peers
// that may no longer use it are closed.
func (p *ProxyServer) Update(endpoints ...*Endpoint) { p.update(endpoints) }

// TrySocket is as that of [Server]; on TCP there is nothing to change.
func (p *ProxyServer) TrySocket(o SocketOptions, accounts *Accounts) error {
	if p.unixSocket == nil {
		return nil
	}
	return p.unixSocket.TrySocket(o, accounts)
}

// SetSocket is as that of [Server]; on TCP there is nothing to change.
func (p *ProxyServer) SetSocket(o SocketOptions, accounts *Accounts) error {
	if p.unixSocket == nil {
		return nil
	}
	return p.unixSocket.setSocket(p.hub, o, accounts)
}

// Listen binds the listener and serves it until [ProxyServer.Close].
func (p *ProxyServer) Listen() error {
	return p.server.ListenAndServe(p.listenOn, func() (net.Listener, error) {
		if p.unixSocket == nil {
			return listenTCP(p.listenOn)
		}
		return p.unixSocket.listen()
	}, p.route)
}

// check is [refresher.Sink.Check] of the endpoint.
func (p *ProxyServer) check() error {
	switch {
	case p.server.Listening() && (p.unixSocket == nil || !p.lost()):
		return nil
	case p.unixSocket == nil:
		return checkTCP(p.listenOn)
	}
	return p.unixSocket.check()
}

// Keep is as that of [Server]; on TCP there is nothing to lose.
func (p *ProxyServer) Keep() error {
	if p.unixSocket == nil {
		return nil
	}
	return p.unixSocket.keep(p.hub)
}

// Close is as that of [Server].
func (p *ProxyServer) Close(ctx context.Context) error {
	if p.unixSocket != nil {
		p.unixSocket.remove()
	}
	return p.server.Close(ctx)
}

// route turns away whom or what it must not serve, and forwards the rest.
func (p *ProxyServer) route(w http.ResponseWriter, r *http.Request) {
	e := p.table.Load().standard
	if e == nil {
		refuse(w, http.StatusServiceUnavailable, "configuration reload in progress: try again")
		return
	}
	if p.unixSocket == nil && (!localHost(r.Host) || fromBrowser(r.Header) || len(r.Header["X-Forwarded-For"]) > 0) {
		e.count(readForbidden)
		refuse(w, http.StatusForbidden, "address this proxy as localhost or by a loopback address, not from a browser and not through another proxy")
		return
	}
	if !e.allow.admits(turns.ConnOf(r.Context()).Peer()) {
		e.count(readForbidden)
		refuse(w, http.StatusForbidden, "your user may not use this proxy")
		return
	}
	switch r.Method {
	case http.MethodConnect, http.MethodTrace: // TRACE would show the token
		refuse(w, http.StatusMethodNotAllowed, "this proxy forwards to one API, and does not do "+r.Method)
		return
	}
	if r.URL.Host != "" || r.URL.Scheme != "" || !strings.HasPrefix(r.URL.Path, "/") {
		refuse(w, http.StatusBadRequest, "this proxy forwards to one API: use it as that API's address, with a path such as /v3/myself, not as an HTTP proxy")
		return
	}
	if hasDots(r.URL.Path) {
		refuse(w, http.StatusBadRequest, "the path has a segment . or .., which would lead out of the API's address: write it without")
		return
	}
	// Uploads and downloads take as long as they take.
	defer turns.ConnOf(r.Context()).TakeTime()()
	stream := http.NewResponseController(w)
	_ = stream.SetReadDeadline(time.Time{})
	_ = stream.SetWriteDeadline(time.Time{})
	if r.ContentLength != 0 {
		_ = stream.EnableFullDuplex() // an answer may begin while the body is on its way
	}
	// What is left of a body that nobody wants is waited for no longer than any.
	defer func() { _ = stream.SetReadDeadline(time.Now().Add(turns.RequestTimeout)) }()
	e.forward.ServeHTTP(w, r)
}

// hasDots tells whether a path, which is not escaped any more, could mean one
// that is not below it. Some servers take \ for a slash, and what follows a ;
// for no part of the segment.
func hasDots(path string) bool {
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// fromBrowser tells whether a page, perhaps somebody else's, sends the request.
// A browser lets it write to loopback addresses without asking anybody.
func fromBrowser(h http.Header) bool {
	site := h.Get("Sec-Fetch-Site")
	return len(h["Origin"]) > 0 || site != "" && site != "none"
}

// refuse answers as Tracker itself does, so that its clients show the reason:
// https://yandex.ru/support/tracker/en/api-ref/error-codes
func refuse(w http.ResponseWriter, code int, reason string) {
	writeJSON(w, code, struct {
		Errors   struct{} `json:"errors"`
		Messages []string `json:"errorMessages"`
		Status   int      `json:"statusCode"`
	}{Messages: []string{"iam-token-refresher: " + reason}, Status: code})
}
