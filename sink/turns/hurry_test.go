package turns

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lateConn is of a machine that is busy with other things: a read ends long
// after it has read.
type lateConn struct {
	*net.UnixConn
	has, ends chan struct{}
}

func (c lateConn) Read(b []byte) (int, error) {
	n, err := c.UnixConn.Read(b)
	close(c.has)
	<-c.ends
	return n, err
}

// Who keeps us waiting is cut off for others, and not whom we keep waiting.
func TestOnlyWhoKeepsUsWaitingLosesTheTurn(t *testing.T) {
	t.Parallel()
	send := func(t *testing.T, near net.Conn) {
		t.Helper()
		_, err := io.WriteString(near, "GET")
		must(t, err)
	}
	for name, c := range map[string]struct {
		begin func(t *testing.T, turn *turn, near net.Conn, has <-chan struct{})
		lost  bool
	}{
		"it sends nothing": {func(t *testing.T, turn *turn, _ net.Conn, _ <-chan struct{}) {
			go func() { _, _ = turn.Read(make([]byte, 100)) }()
			until(t, func() bool { return turn.reading.Load() > 0 })
		}, true},
		"we have not come to read what it sent": {func(t *testing.T, turn *turn, near net.Conn, _ <-chan struct{}) {
			turn.reading.Store(turn.age())
			send(t, near)
		}, false},
		"we have not come to look at what we read": {func(t *testing.T, turn *turn, near net.Conn, has <-chan struct{}) {
			go func() { _, _ = turn.Read(make([]byte, 100)) }()
			until(t, func() bool { return turn.reading.Load() > 0 }) // it had to wait at first
			send(t, near)
			<-has
		}, false},
		"we have not come to answer what it asked": {func(_ *testing.T, turn *turn, _ net.Conn, _ <-chan struct{}) {
			connState(turn, http.StateActive)
			go func() { _, _ = turn.Read(make([]byte, 1)) }() // net/http listens for its end
			turn.reading.Store(turn.age())
		}, false},
		"it does not take what we write": {func(t *testing.T, turn *turn, _ net.Conn, _ <-chan struct{}) {
			go func() { _, _ = turn.Write(make([]byte, 4<<20)) }()
			until(t, func() bool { return turn.writing.Load() > 0 && !turn.wouldNotWait(unix.POLLOUT) })
		}, true},
		"we have not come to write": {func(_ *testing.T, turn *turn, _ net.Conn, _ <-chan struct{}) {
			turn.writing.Store(turn.age())
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := socketPair(t)
			late := lateConn{far, make(chan struct{}), make(chan struct{})}
			defer close(late.ends)
			g := newGate(Options{Max: 4096, MaxPerUser: 2048, Peer: root})
			first := g.takeTurn(g.admit(late, nil))
			c.begin(t, first, near, late.has)
			<-time.After(slowTurn)

			// Somebody else of the same user wants a turn, and there is none.
			g.mu.Lock()
			g.begun[0] = Most
			g.mu.Unlock()
			_, other := socketPair(t)
			given := make(chan *turn, 1)
			go func() { given <- g.takeTurn(g.admit(other, nil)) }()
			waits := func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.queued) > 0 }
			if c.lost {
				until(t, func() bool { return len(given) > 0 })
			} else {
				until(t, waits)
				if g.hurry(0); !waits() {
					t.Error("the turn was taken away")
				}
			}
			g.end()
			<-given
		})
	}
}

// Byte by byte it never keeps us waiting for long.
func TestARequestThatIsLongOnItsWayIsSlowHoweverOftenAPieceComes(t *testing.T) {
	t.Parallel()
	near, far := socketPair(t)
	g := newGate(Options{Max: 4096, MaxPerUser: 2048, Peer: root})
	turn := g.takeTurn(g.admit(far, nil))
	justNow := func() { turn.reading.Store(turn.age() + int64(time.Hour)) }
	if justNow(); turn.slow() {
		t.Error("a request that has just begun is slow")
	}
	turn.since = turn.since.Add(-slowRequest)
	if justNow(); !turn.slow() {
		t.Error("a request that began long ago is not slow")
	}
	if turn.reading.Store(0); turn.slow() {
		t.Error("a request is slow that we have not come to look at")
	}
	turn.idle.Store(true)
	turn.served.Store(true) // so the next is another request
	_, err := io.WriteString(near, "GET")
	must(t, err)
	_, err = turn.Read(make([]byte, 100))
	must(t, err)
	if justNow(); turn.slow() {
		t.Error("a request is slow that has just begun in a turn that has lasted long")
	}
	g.end()
}

func socketPair(t *testing.T) (near net.Conn, far *net.UnixConn) {
	t.Helper()
	ln, err := net.Listen("unix", socketPath(t))
	must(t, err)
	defer ln.Close()
	near, err = net.Dial("unix", ln.Addr().String())
	must(t, err)
	t.Cleanup(func() { near.Close() })
	c, err := ln.Accept()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return near, c.(*net.UnixConn)
}
