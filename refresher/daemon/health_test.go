package daemon

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/sink/turns"
)

// pipeListener accepts connections without descriptors, for virtual time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipeListener() pipeListener {
	closed := make(chan struct{})
	return pipeListener{make(chan net.Conn), closed, sync.OnceFunc(func() { close(closed) })}
}

func (p pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipeListener) Close() error   { p.close(); return nil }
func (p pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// Whoever reaches the port must not fill the memory, nor keep probes out.
func TestAFloodOfTheStatusListenerIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipeListener()
		ready := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ready") })
		h, err := serveHealth("pipe", func() (net.Listener, error) { return p, nil }, ready, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer h.close()
		const flood = 10 * healthConns
		ended := make(chan error, flood)
		begin := time.Now()
		for range flood {
			c := p.dial()
			go func() { _, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n") }()
			go func() {
				defer c.Close()
				_, err := io.Copy(io.Discard, c)
				ended <- err
			}()
			synctest.Wait()
		}
		if open := h.server.Counts().Open; open > healthConns {
			t.Errorf("%d connections are open, want at most %d", open, healthConns)
		}
		probe := p.dial()
		defer probe.Close()
		go func() { _, _ = io.WriteString(probe, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n") }()
		resp, err := http.ReadResponse(bufio.NewReader(probe), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ready" || time.Since(begin) > 0 {
			t.Errorf("a probe is told %q, %v, after %v", body, err, time.Since(begin))
		}
		for range flood {
			<-ended
		}
		if took := time.Since(begin); took > turns.RequestTimeout {
			t.Errorf("bodies were waited for, for %v", took)
		}
	})
}

func TestWhoHasTheStatusPortIsSaid(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	_, err = bindHealth(l.Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "another process listens there: stop it or choose another address") {
		t.Error(err)
	}
}
