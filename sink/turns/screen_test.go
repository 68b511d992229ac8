package turns

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"iam-token-refresher/sink/peer"
)

// busyListener accepts when it is told to, and says that it is about to.
type busyListener struct {
	*net.UnixListener
	about, accept chan struct{}
}

func (l busyListener) Accept() (net.Conn, error) {
	l.about <- struct{}{}
	<-l.accept
	return l.UnixListener.Accept()
}

func TestWhoWaitedToBeAcceptedIsScreenedAndWhoComesLaterIsNot(t *testing.T) {
	t.Parallel()
	s := NewServer(Options{Max: 100, MaxPerUser: 100, Log: slog.New(slog.DiscardHandler), Peer: func(net.Conn) (peer.Peer, error) {
		return peer.Peer{UID: 1}, nil
	}})
	path := socketPath(t)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	defer ln.Close()
	l := busyListener{ln, make(chan struct{}), make(chan struct{})}
	closing, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.gate.accept(l, closing)
	}()
	dial := func() net.Conn {
		c, err := net.Dial("unix", path)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	<-l.about
	early := []net.Conn{dial(), dial()}
	s.Screen(func(p *peer.Peer) bool { return p.UID != 1 })()
	for _, c := range early {
		l.accept <- struct{}{}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("who was there before: %v, want the end", err)
		}
		<-l.about
	}
	dial()
	l.accept <- struct{}{}
	<-l.about
	if open := s.Counts().Open; open != 1 {
		t.Errorf("%d connections are open, want the late one", open)
	}
	close(closing)
	ln.Close()
	l.accept <- struct{}{}
	<-ended
	s.gate.end()
}
