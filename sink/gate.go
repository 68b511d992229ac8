package sink

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is an accepted connection with what is known of its other end.
type conn struct {
	net.Conn
	peer peer
	gate *gate
	seq  uint64
	// serving: a request is being answered; served: there was one.
	serving, served atomic.Bool
	closed          sync.Once
	// ahead was read from the connection before its time.
	ahead []byte
}

func (c *conn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// awaitByte returns when the peer sends something or is gone or the read
// deadline comes, and tells whether the connection is still good.
func (c *conn) awaitByte() bool {
	var b [1]byte
	n, err := c.Conn.Read(b[:])
	c.ahead = append(c.ahead, b[:n]...)
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

func (c *conn) Close() error {
	c.closed.Do(func() { c.gate.forget(c) })
	return c.Conn.Close()
}

type connKey struct{}

func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// gate limits how many connections there are, so that a client that opens
// thousands does not keep others out.
type gate struct {
	max, maxPerUser int
	// evict: a connection over the limit takes the place of one that has said
	// nothing for the longest time. Without it it is closed.
	evict bool
	peer  func(net.Conn) (peer, error)
	log   *slog.Logger
	noted rarely

	mu     sync.Mutex
	seq    uint64
	conns  map[*conn]struct{}
	byUser map[uint32]int
	// firsts has something when a connection is no longer one that has said
	// nothing yet.
	firsts chan struct{}
}

// limits keeps a part of the process's descriptors for the daemon's own work:
// where only 1024 are allowed, the defaults would leave none.
func limits(most, mostPerUser int) (int, int) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) == nil && r.Cur < uint64(most)+512 {
		most = int(r.Cur) / 2
	}
	return most, min(mostPerUser, max(most/2, 1))
}

func newGate(most, mostPerUser int, evict bool, who func(net.Conn) (peer, error), log *slog.Logger) *gate {
	return &gate{
		max: most, maxPerUser: mostPerUser, evict: evict, peer: who, log: log,
		conns: make(map[*conn]struct{}), byUser: make(map[uint32]int), firsts: make(chan struct{}, 1),
	}
}

// admit returns nil for a connection that was closed instead.
func (g *gate) admit(nc net.Conn) *conn {
	p, err := g.peer(nc)
	if err != nil {
		nc.Close() // it is gone already
		return nil
	}
	c := &conn{Conn: nc, peer: p, gate: g}
	g.mu.Lock()
	full := g.byUser[p.uid] >= g.maxPerUser || len(g.conns) >= g.max
	if full && !g.evict {
		g.mu.Unlock()
		nc.Close()
		if g.noted.now() {
			g.log.Warn("refused connections: a user has too many open", "uid", p.uid, "pid", p.pid, "limit", g.maxPerUser)
		}
		return nil
	}
	g.seq++
	c.seq = g.seq
	g.conns[c] = struct{}{}
	g.byUser[p.uid]++
	g.mu.Unlock()
	if full {
		g.evictOne()
		if g.noted.now() {
			g.log.Warn("closed silent connections: too many are open", "limit", g.max)
		}
	}
	return c
}

// evictOne closes the oldest connection that never sent a whole request, or
// else the oldest that is not being answered.
func (g *gate) evictOne() {
	g.mu.Lock()
	var victim *conn
	for c := range g.conns {
		if c.serving.Load() {
			continue
		}
		if victim == nil || victim.served.Load() && !c.served.Load() ||
			victim.served.Load() == c.served.Load() && c.seq < victim.seq {
			victim = c
		}
	}
	g.mu.Unlock()
	if victim != nil {
		victim.Close()
	}
}

func (g *gate) forget(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.heard()
	delete(g.conns, c)
	if g.byUser[c.peer.uid]--; g.byUser[c.peer.uid] <= 0 {
		delete(g.byUser, c.peer.uid)
	}
}

// heard says that there may be nobody any more who has said nothing.
func (g *gate) heard() {
	select {
	case g.firsts <- struct{}{}:
	default:
	}
}

// awaitFirst waits until every connection has sent a request, but no longer
// than grace and ctx allow.
func (g *gate) awaitFirst(ctx context.Context, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for g.anySilent() {
		select {
		case <-g.firsts:
		case <-ctx.Done():
			return
		}
	}
}

func (g *gate) anySilent() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		if !c.served.Load() {
			return true
		}
	}
	return false
}

// closeIf closes the connections that which names.
func (g *gate) closeIf(which func(*conn) bool) {
	g.mu.Lock()
	all := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		all = append(all, c)
	}
	g.mu.Unlock()
	for _, c := range all {
		if which(c) {
			c.Close()
		}
	}
}

// listener accepts through a gate.
type listener struct {
	net.Listener
	gate    *gate
	closing <-chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			select {
			case <-l.closing:
				return nil, net.ErrClosed
			default:
			}
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				l.gate.evictOne() // net/http waits and tries again
			}
			return nil, err
		}
		if c := l.gate.admit(nc); c != nil {
			return c, nil
		}
	}
}

// rarely says yes once a minute.
type rarely struct{ last atomic.Int64 }

func (r *rarely) now() bool {
	now := time.Now().Unix()
	last := r.last.Load()
	return now-last >= 60 && r.last.CompareAndSwap(last, now)
}
