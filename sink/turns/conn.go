package turns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"iam-token-refresher/sink/peer"
)

// Conn is an accepted connection with what is known of its other end. What
// [http.Request.Context] holds of it is for [ConnOf].
type Conn struct {
	net.Conn
	peer peer.Peer
	gate *gate
	seq  uint64
	// serving: a request is being answered; served: the last one that began was,
	// or is about to be; taken: it has come to its handler; resting: the next one
	// is waited for.
	serving, served, taken, resting atomic.Bool
	// wants: the body of the request is being read.
	wants atomic.Bool
	// leisure: this request may take as long as it takes.
	leisure atomic.Bool
	closed  sync.Once
	// detached: it is in the hands of who called [Server.Detach].
	detached atomic.Bool
	// gone: nobody would get an answer. It is set before [Conn.Watch] says that
	// the other end says no more.
	gone bool
	// ahead was read from the connection before its time.
	ahead []byte
	// turn is net/http's hold on the connection, or what it waits for; nil
	// without. Guarded by gate.mu.
	turn *turn
}

func (c *Conn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// awaitByte returns when the peer sends something or is gone or the read
// deadline comes. The error is why it sends no more.
func (c *Conn) awaitByte() error {
	var b [1]byte
	n, err := c.Conn.Read(b[:])
	for n == 0 && err == nil {
		n, err = c.Conn.Read(b[:])
	}
	c.ahead = append(c.ahead, b[:n]...)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func (c *Conn) Close() error {
	c.closed.Do(func() { c.gate.forget(c) })
	return c.Conn.Close()
}

// awaitedBody is a request's body whose pieces we wait for.
type awaitedBody struct {
	io.ReadCloser
	conn *Conn
}

func (b awaitedBody) Read(p []byte) (int, error) {
	b.conn.wants.Store(true)
	defer b.conn.wants.Store(false)
	return b.ReadCloser.Read(p)
}

type connKey struct{}

// ConnOf returns the connection of a request of a [Server], from the request's
// context.
func ConnOf(ctx context.Context) *Conn {
	t, _ := ctx.Value(connKey{}).(*turn)
	return t.Conn
}

// Peer is who is at the other end.
func (c *Conn) Peer() *peer.Peer { return &c.peer }

// TakeTime lets the request that is being answered take as long as it takes,
// also when others wait for its turn, until end is called.
func (c *Conn) TakeTime() (end func()) {
	c.leisure.Store(true)
	return func() { c.leisure.Store(false) }
}

// Detach takes the connection of r, a request without a body, away from
// net/http for as long as answer runs, which is in a goroutine of its own. It
// writes the answer to c and tells whether c can be used for another request;
// it must not use w and should keep little of r. It returns false when that
// cannot be done, or the server closes: then r is to be answered as usual.
func (s *Server) Detach(w http.ResponseWriter, r *http.Request, answer func(c *Conn) (keep bool)) bool {
	if r.ContentLength != 0 || !s.beginDetached() {
		return false
	}
	c := ConnOf(r.Context())
	_, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.detached.Done()
		return false
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		ahead, _ := buffered.Reader.Peek(n)
		c.ahead = slices.Clone(ahead)
	}
	c.detached.Store(true)
	go func() {
		defer s.detached.Done()
		keep := answer(c)
		c.detached.Store(false)
		if keep {
			_ = c.SetDeadline(time.Time{})
			keep = c.gate.rest(c)
		}
		if !keep {
			c.Close()
		}
	}()
	return true
}

// beginDetached counts a connection, unless the server closes.
func (s *Server) beginDetached() bool {
	s.detaching.Lock()
	defer s.detaching.Unlock()
	select {
	case <-s.closing:
		return false
	default:
		s.detached.Add(1)
		return true
	}
}

// Watch tells when the other end of a detached connection says no more: from
// then on [Conn.Gone] tells whether it still listens. stop ends the watching and
// waits for its end; it is to be called once. What the other end sends
// meanwhile is kept for the next request.
func (c *Conn) Watch() (silent <-chan struct{}, stop func()) {
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if err := c.awaitByte(); err != nil {
			// Some clients, such as nc -N, close their half after the request.
			c.gone = err != io.EOF || c.hungUp()
			close(ended)
		}
	}()
	return ended, func() {
		_ = c.SetReadDeadline(past)
		<-watched
	}
}

// Gone tells, once Watch has said that the other end says no more, whether it
// is known not to take an answer either.
func (c *Conn) Gone() bool { return c.gone }

// hungUp tells whether the other end has closed both halves, where that can be
// told: poll(2) says so without being asked.
func (c *Conn) hungUp() bool { return c.wouldNotWait(0) }
