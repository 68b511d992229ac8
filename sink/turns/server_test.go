package turns

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// net/http reads a request, says so, and then looks whether it shuts down.
func TestARequestThatWasJustReadIsAnsweredAtTheEnd(t *testing.T) {
	t.Parallel()
	s := NewServer(Options{Max: 100, MaxPerUser: 100, Peer: root, Log: slog.New(slog.DiscardHandler)})
	wasRead, shutdown := make(chan struct{}), make(chan struct{})
	s.connState = func(c net.Conn, state http.ConnState) {
		connState(c, state)
		if state == http.StateActive {
			close(wasRead)
			select { // the end must wait for it, up to silentGrace
			case <-shutdown:
			case <-time.After(silentGrace / 5):
			}
		}
	}
	path := socketPath(t)
	must(t, s.ListenAndServe(path, func() (net.Listener, error) { return net.Listen("unix", path) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	s.server.RegisterOnShutdown(func() { close(shutdown) })
	c, err := net.Dial("unix", path)
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	<-wasRead
	must(t, s.Close(context.Background()))
	const want = "HTTP/1.1 204 No Content\r\n"
	if answer, err := io.ReadAll(c); err != nil || len(answer) < len(want) || string(answer[:len(want)]) != want {
		t.Errorf("answered %q, %v", answer, err)
	}
}

// socketPath is short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "turns")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what other goroutines are about to do.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 30 s")
		}
	}
}
