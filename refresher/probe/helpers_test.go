package probe_test

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/probe"
)

const org = "bpfaidqca8vd0m5jl3fp"

// opaque makes a secret that no shape gives away.
func opaque(t testing.TB) string {
	t.Helper()
	b := make([]byte, 40)
	_, _ = rand.Read(b)
	return "opaque." + hex.EncodeToString(b)
}

// server is a TLS server on loopback.
func server(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// says is an answer that is always the same.
func says(code int, contentType, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// raw answers with bytes that are no proper answer.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer func() { _ = conn.Close() }()
		out := bufio.NewWriter(conn)
		_, _ = out.WriteString(answer)
		_ = out.Flush()
	}
}

// reset ends the connection with a RST.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	type netConn interface{ NetConn() net.Conn }
	if c, ok := conn.(netConn); ok {
		_ = c.NetConn().(*net.TCPConn).SetLinger(0)
		_ = c.NetConn().Close()
	}
	_ = conn.Close()
}

// hang never answers. Who returns does, and may reach a client that is leaving.
func hang(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func onTracker(t testing.TB, s *httptest.Server) refresher.Probe {
	t.Helper()
	p, err := probe.TrackerOptions{CloudOrgID: org}.New(probe.Config{Client: s.Client(), TrackerURL: s.URL, UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// checkReason: one line, not long, no secret, and what it must say.
func checkReason(t *testing.T, f refresher.Finding, secret string, want ...string) {
	t.Helper()
	if f.Reason == "" || len(f.Reason) > 600 || strings.Contains(f.Reason, "\n") {
		t.Errorf("reason is not a line: %q", f.Reason)
	}
	if strings.Contains(f.Reason, `Get "`) {
		t.Errorf("reason quotes the request: %q", f.Reason)
	}
	for i := 0; i+16 <= len(secret); i++ {
		if strings.Contains(f.Reason, secret[i:i+16]) {
			t.Errorf("reason holds a piece of the secret: %q", f.Reason)
			break
		}
	}
	for _, w := range want {
		if !strings.Contains(f.Reason, w) {
			t.Errorf("reason does not say %q: %q", w, f.Reason)
		}
	}
}
