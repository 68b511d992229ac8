package emulator

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const maxBody = 1 << 20

// listen opens all listeners and starts to serve.
func (e *Emulator) listen() error {
	host, port, err := splitListen(e.o.Listen)
	if err != nil {
		return err
	}
	if e.authority, err = newAuthority(append([]string{host}, e.o.Names...)); err != nil {
		return err
	}
	shown := host // an address that clients can connect to
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		shown = "127.0.0.1"
	}
	adminHost := "127.0.0.1"
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		adminHost = host
	}

	services := []struct {
		handler http.Handler
		plain   bool
		host    string
		to      *string
		format  string
	}{
		{e.apiHandler(), false, host, &e.endpoints.API, "%s"},
		{e.iamHandler(), false, host, &e.endpoints.IAM, "%s"},
		{e.metadataHandler(), true, host, &e.endpoints.Metadata, "http://%s"},
		{e.exchangeHandler(), false, host, &e.endpoints.TokenExchange, "https://%s/oauth/token"},
		{e.oauthHandler(), false, host, &e.endpoints.OAuth, "https://%s"},
		{e.trackerHandler(), false, host, &e.endpoints.Tracker, "https://%s"},
		{e.adminHandler(), true, adminHost, &e.endpoints.Admin, "http://%s"},
	}
	listeners := make([]net.Listener, 0, len(services))
	closeAll := func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	for i, s := range services {
		p := port
		if port != 0 {
			p = port + i
		}
		address := net.JoinHostPort(s.host, strconv.Itoa(p))
		if s.to == &e.endpoints.Metadata && e.o.MetadataListen != "" {
			address = e.o.MetadataListen
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			closeAll()
			return fmt.Errorf("listen for the services: %w", err)
		}
		listeners = append(listeners, l)
		real := l.Addr().(*net.TCPAddr)
		public := real.String()
		if s.host == host && real.IP.IsUnspecified() {
			public = net.JoinHostPort(shown, strconv.Itoa(real.Port))
		}
		*s.to = fmt.Sprintf(s.format, public)
	}
	for i, s := range services { // only now, as they tell each other's addresses
		e.serve(listeners[i], s.handler, s.plain)
	}
	return nil
}

// splitListen reads host or host:port; port 0 lets the system choose.
func splitListen(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil { // no port
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		if host == "" || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", 0, fmt.Errorf("listen address %q: want a host or host:port, such as 127.0.0.1 or 127.0.0.1:9000", address)
		}
		return host, 0, nil
	}
	port, err = strconv.Atoi(text)
	if host == "" || err != nil || port < 0 || port > 65535-6 {
		return "", 0, fmt.Errorf("listen address %q: want a host or host:port with a port up to 65529: seven are used", address)
	}
	return host, port, nil
}

type connKey struct{}

// serve serves one listener until Close.
func (e *Emulator) serve(l net.Listener, h http.Handler, plain bool) {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(logWriter{e.o.Log}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				e.conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				e.conns.Done()
			}
		},
	}
	if !plain {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{e.authority.leaf}, MinVersion: tls.VersionTLS12}
	}
	e.servers = append(e.servers, s)
	e.serving.Go(func() {
		var err error
		if plain {
			err = s.Serve(l)
		} else {
			err = s.ServeTLS(l, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			e.o.Log.Error("a service ended", "address", l.Addr().String(), "error", err)
		}
	})
}

// requestGate counts requests being served and lets none begin once closed.
type requestGate struct {
	mu     sync.Mutex
	closed bool
	active sync.WaitGroup
}

func (g *requestGate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.active.Add(1)
	return true
}

func (g *requestGate) leave() { g.active.Done() }

func (g *requestGate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func (g *requestGate) wait() { g.active.Wait() }

// method makes a handler for one method of a service: it counts the call,
// does wrong what was injected, and otherwise lets the service answer.
func (e *Emulator) method(service, method string, answer http.HandlerFunc) http.HandlerFunc {
	return e.streaming(service, method, answer, true)
}

// streaming is method for an answer that reads the body as it comes, unless
// whole is set.
func (e *Emulator) streaming(service, method string, answer http.HandlerFunc, whole bool) http.HandlerFunc {
	key := service + "/" + method
	return func(w http.ResponseWriter, r *http.Request) {
		if !e.requests.enter() {
			panic(http.ErrAbortHandler)
		}
		defer e.requests.leave()
		start := time.Now()
		e.calls.add(key)
		c := &call{service: service, method: method}
		w.Header().Set("Date", e.now().UTC().Format(http.TimeFormat))
		defer func() {
			outcome, owner := c.story()
			e.o.Log.LogAttrs(r.Context(), slog.LevelDebug, "call",
				slog.String("service", service), slog.String("method", method), slog.String("outcome", outcome),
				slog.String("account", owner), slog.Duration("took", time.Since(start)))
		}()
		if whole && !isGRPC(r) && r.Body != nil && r.Body != http.NoBody {
			// Read whole, so that net/http notices when a waiting client leaves.
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err != nil {
				c.ended("bad request body")
				http.Error(w, "the request body cannot be read or is too long", http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		if !e.goWrong(w, r, c) {
			answer(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
		}
	}
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// redirected is where redirects lead when the fault does not say: who follows
// one shows up in the counts.
func (e *Emulator) redirected(service string) http.HandlerFunc {
	return e.method(service, "redirected", func(w http.ResponseWriter, r *http.Request) {
		callOf(r.Context()).ended("redirect was followed")
		writeJSON(w, http.StatusOK, struct{}{})
	})
}

// logWriter takes what net/http has to say, such as failed TLS handshakes.
type logWriter struct{ log *slog.Logger }

func (l logWriter) Write(b []byte) (int, error) {
	l.log.Debug("http server", "message", strings.TrimSpace(string(b)))
	return len(b), nil
}
