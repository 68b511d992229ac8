package sink

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/peer"
	"iam-token-refresher/sink/turns"
)

// pipes is a listener without descriptors, for virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

// dial returns when the connection was accepted.
func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

func (p *pipes) client(t *testing.T) *http.Client {
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return p.dial(), nil
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// servePipes is serve in virtual time; everybody is root there.
func servePipes(t *testing.T, d *daemon, tokens ...string) (*Server, *http.Client, map[string]*Endpoint) {
	s, p, byName := listenOnPipes(t, d, tokens...)
	c := p.client(t)
	t.Cleanup(c.CloseIdleConnections)
	return s, c, byName
}

// root is at the other end of everything.
func root(net.Conn) (peer.Peer, error) { return peer.Peer{}, nil }

// listenOnPipes is servePipes for clients that do not speak as they should.
func listenOnPipes(t *testing.T, d *daemon, tokens ...string) (*Server, *pipes, map[string]*Endpoint) {
	p := newPipes()
	s := newServer(t, d, ServerOptions{Inherited: p, Socket: SocketOptions{Path: "/pipe"}, peerOf: root})
	byName := map[string]*Endpoint{}
	for _, token := range tokens {
		byName[token] = endpoint(t, s, token, nil)
	}
	s.Update(byName[tokens[0]])
	must(t, s.Listen())
	return s, p, byName
}

func TestWaits(t *testing.T) {
	t.Parallel()
	revoke := func(d *daemon) {
		d.set(func() {
			st := d.status["bot"]
			st.Health = refresher.Revoked
			d.status["bot"] = st
		})
	}
	for name, c := range map[string]struct {
		headers []string
		before  func(*testing.T, *daemon, *Endpoint)
		// after happens when the reader has waited 20 s.
		after func(*testing.T, *daemon, *Endpoint, *Server)
		code  int
		etag  string
		waits time.Duration
	}{
		"without a wait the same is told at once": {
			headers: []string{"If-None-Match", `"abc-1"`}, code: 304, etag: `"abc-1"`,
		},
		"another version is told at once": {
			headers: []string{"If-None-Match", `"abc-0"`, "Prefer", "wait=60"}, code: 200, etag: `"abc-1"`,
		},
		"without a known version nothing is waited for": {
			headers: []string{"Prefer", "wait=60"}, code: 200, etag: `"abc-1"`,
		},
		"a wait ends with 304": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"}, code: 304, etag: `"abc-1"`, waits: time.Minute,
		},
		"a wait is at most 300 s": {
			headers: []string{"If-None-Match", `W/"abc-1"`, "Prefer", "respond-async, wait=100000"}, code: 304, etag: `"abc-1"`, waits: 300 * time.Second,
		},
		"a wait that cannot be read is none": {
			headers: []string{"If-None-Match", `*`, "Prefer", "wait=-1"}, code: 304, etag: `"abc-1"`,
		},
		"a new version ends a wait": {
			headers: []string{"If-None-Match", `"x", "abc-1"`, "Prefer", "wait=60"},
			after:   func(t *testing.T, d *daemon, e *Endpoint, _ *Server) { d.publish(t, version("bot", 2), e) },
			code:    200, etag: `"abc-2"`, waits: 20 * time.Second,
		},
		"the same version again does not": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"},
			after:   func(t *testing.T, d *daemon, e *Endpoint, _ *Server) { d.publish(t, version("bot", 1), e) },
			code:    304, etag: `"abc-1"`, waits: time.Minute,
		},
		"a wait for the first version": {
			headers: []string{"Prefer", "wait=60"},
			before:  func(_ *testing.T, d *daemon, _ *Endpoint) { revoke(d) },
			after:   func(t *testing.T, d *daemon, e *Endpoint, _ *Server) { d.publish(t, version("bot", 2), e) },
			code:    200, etag: `"abc-2"`, waits: 20 * time.Second,
		},
		"a wait for a replacement that does not come": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"},
			before:  func(_ *testing.T, d *daemon, _ *Endpoint) { revoke(d) },
			code:    503, waits: time.Minute,
		},
		"a value revoked in a wait is not called unchanged": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"},
			after:   func(_ *testing.T, d *daemon, _ *Endpoint, _ *Server) { revoke(d) },
			code:    503, waits: time.Minute,
		},
		"a token that is removed": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"},
			after:   func(_ *testing.T, _ *daemon, _ *Endpoint, s *Server) { s.Update() },
			code:    404, waits: 20 * time.Second,
		},
		"a reload that keeps the token": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"},
			after: func(t *testing.T, _ *daemon, _ *Endpoint, s *Server) {
				e := endpoint(t, s, "bot", nil)
				must(t, e.Publish(t.Context(), version("bot", 1)))
				s.Update(e)
			},
			code: 304, etag: `"abc-1"`, waits: time.Minute,
		},
		"the end of the server": {
			headers: []string{"If-None-Match", `"abc-1"`, "Prefer", "wait=60"},
			after:   func(t *testing.T, _ *daemon, _ *Endpoint, s *Server) { must(t, s.Close(t.Context())) },
			code:    304, etag: `"abc-1"`, waits: 20 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, accept := range []string{"text/plain", "application/json"} {
				synctest.Test(t, func(t *testing.T) {
					d := newDaemon()
					s, client, byName := servePipes(t, d, "bot")
					d.publish(t, version("bot", 1), byName["bot"])
					if c.before != nil {
						c.before(t, d, byName["bot"])
					}
					if c.after != nil {
						time.AfterFunc(20*time.Second, func() { c.after(t, d, byName["bot"], s) })
					}
					begin := time.Now()
					a := ask(t, client, "GET", "/v1/tokens/bot", append(c.headers, "Accept", accept)...)
					if a.code != c.code || a.header.Get("Etag") != c.etag || time.Since(begin) != c.waits {
						t.Errorf("%d %s after %v, want %d %s after %v", a.code, a.header.Get("Etag"), time.Since(begin), c.code, c.etag, c.waits)
					}
					if c.code == 200 && !strings.Contains(a.body, "t1.bot-") {
						t.Errorf("the body is %q", a.body)
					}
				})
			}
		})
	}
}

// As RFC 7240 writes them.
func TestPreferredWaitsAreRead(t *testing.T) {
	t.Parallel()
	for header, seconds := range map[string]int{
		"wait=7": 7, `wait="7"`: 7, "Wait=7": 7, "WAIT = 7": 7, "wait\t=\t\"7\"": 7, "wait=7;foo=1": 7, `wait=7 ; foo="x"`: 7,
		"respond-async, wait=7": 7, "foo;wait=3, wait=7": 7, "wait=99999": 300,
		"": 0, "wait": 0, "wait=": 0, "wait=x": 0, "wait=-1": 0, "wait=7.5": 0, "waiting=7": 0, "foo;wait=7": 0, "a wait=7": 0,
	} {
		if got := preferredWait([]string{"handling=lenient", header}); got != time.Duration(seconds)*time.Second {
			t.Errorf("%q is a wait of %v, want %d s", header, got, seconds)
		}
	}
}

func TestAConnectionIsUsedAgainAfterAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon()
		_, p, byName := listenOnPipes(t, d, "bot")
		d.publish(t, version("bot", 1), byName["bot"])
		near := p.dial()
		wait := "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abc-1\"\r\nPrefer: wait=5\r\n\r\n"
		plain := "HEAD /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\n"
		last := "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abc-1\"\r\nPrefer: wait=5\r\nConnection: close\r\n\r\n"
		// All at once: what follows a wait must not get lost.
		go func() { _, _ = io.WriteString(near, wait+plain+wait+last+plain) }()
		r := bufio.NewReader(near)
		for i, want := range []struct {
			method string
			code   int
			at     time.Duration
		}{{"GET", 304, 5 * time.Second}, {"HEAD", 200, 5 * time.Second}, {"GET", 304, 10 * time.Second}, {"GET", 304, 15 * time.Second}} {
			begin := time.Now()
			resp, err := http.ReadResponse(r, &http.Request{Method: want.method})
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode != want.code || (i == 0 || i == 2) && time.Since(begin) != 5*time.Second {
				t.Errorf("answer %d: %d after %v", i, resp.StatusCode, time.Since(begin))
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("after Connection: close: %v, want the end", err)
		}
		near.Close()
	})
}

func TestAConnectionThatWaitedAndSaysNothingMoreEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon()
		_, p, byName := listenOnPipes(t, d, "bot")
		d.publish(t, version("bot", 1), byName["bot"])
		near := p.dial()
		_, err := io.WriteString(near, "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abc-1\"\r\nPrefer: wait=5\r\n\r\n")
		must(t, err)
		r := bufio.NewReader(near)
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		resp.Body.Close()
		begin := time.Now()
		if _, err := r.ReadByte(); err != io.EOF || time.Since(begin) != turns.IdleTimeout { // as after any answer
			t.Errorf("a silent connection ended after %v with %v, want %v", time.Since(begin), err, turns.IdleTimeout)
		}
		near.Close()
	})
}

func TestAThousandWaitersAreToldAndCostLittle(t *testing.T) {
	const waiters = 1000
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	conns := make([]net.Conn, waiters)
	before := memory()
	goroutines := runtime.NumGoroutine()
	for i := range conns {
		c, err := net.Dial("unix", s.Path())
		must(t, err)
		defer c.Close()
		conns[i] = c
		_, err = io.WriteString(c, "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nIf-None-Match: \"abc-1\"\r\nPrefer: wait=60\r\n\r\n")
		must(t, err)
	}
	until(t, func() bool {
		return runtime.NumGoroutine() >= goroutines+2*waiters && s.server.Counts().Detached == waiters
	})
	each := (memory() - before) / waiters
	t.Logf("a waiter costs %d bytes", each)
	if each > 20<<10 {
		t.Errorf("a waiter costs %d bytes, want at most 20 KB", each)
	}
	begin := time.Now()
	d.publish(t, version("bot", 2), byName["bot"])
	want := "HTTP/1.1 200 OK\r\n"
	for _, c := range conns {
		b := make([]byte, len(want))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
			t.Fatalf("told %q, %v", b, err)
		}
	}
	// The budget is 100 ms on a machine that does nothing else: make bench.
	took := time.Since(begin)
	t.Logf("all were told after %v", took)
	if took > 20*time.Second { // of the 60 s that they would wait
		t.Errorf("all were told after %v", took)
	}
}

func memory() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

func TestAWaiterThatDiesLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	var conns []net.Conn
	for range 20 {
		c, err := net.Dial("unix", s.Path())
		must(t, err)
		defer c.Close()
		conns = append(conns, c)
		_, err = fmt.Fprint(c, "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abc-1\"\r\nPrefer: wait=300\r\n\r\n")
		must(t, err)
	}
	until(t, func() bool { return s.server.Counts().Detached == len(conns) })
	for _, c := range conns {
		must(t, c.Close())
	}
	until(t, func() bool { return s.server.Counts().Open == 0 })
	if reads := byName["bot"].Reads(); reads["not_modified"] > 0 {
		t.Errorf("counted %v, and nobody was there to read", reads)
	}
}

// As nc -N does.
func TestAWaiterThatClosesItsHalfIsAnswered(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	wait := "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abc-1\"\r\nPrefer: wait=300\r\n\r\n"
	for name, c := range map[string]struct {
		send  string
		later bool // the half is closed when it waits
		codes []int
	}{
		"at once":             {wait, false, []int{304}},
		"later":               {wait, true, []int{304}},
		"after more requests": {wait + plainGet + wait, true, []int{304, 200, 304}},
	} {
		conn := dialSocket(t, s.Path()).(*net.UnixConn)
		_, err := io.WriteString(conn, c.send)
		must(t, err)
		if c.later {
			until(t, func() bool { return s.server.Counts().Detached == 1 })
		}
		must(t, conn.CloseWrite())
		must(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
		r := bufio.NewReader(conn)
		for i, want := range c.codes {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%s: answer %d: %v", name, i, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
				t.Errorf("%s: answer %d: %d, %v, want %d", name, i, resp.StatusCode, err, want)
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%s: then %v, want the end", name, err)
		}
	}
	until(t, func() bool { return s.server.Counts().Open == 0 })
}

// until waits for what other goroutines are about to do.
func until(t *testing.T, done func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen within %v", patience)
		}
		<-time.After(time.Millisecond) // whoever looks all the time takes it from those it waits for
	}
}
