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

// The words of this file, turns.go and hurry.go:
//
//   - gate: admission control, how many connections there are, in all and per user.
//   - turn: a request slot. A connection has one from the first byte of a request
//     until the answer is written; only then net/http knows it.
//   - crowd: the pool of request slots, shared fairly among users, with a queue
//     for each.
//   - rest: a keep-alive connection between requests, idle and without a slot.
//   - linger: the short while that a slot is kept after an answer, in case the
//     next request follows at once.
//   - hurry: reclaiming slots from slow clients while others wait for one.
//   - leisure: a request that is exempt from that, such as an upload through a
//     proxy.

// conn is an accepted connection with what is known of its other end.
type conn struct {
	net.Conn
	peer peer
	gate *gate
	seq  uint64
	// serving: a request is being answered; served: the last one that began was,
	// or is about to be; taken: it has come to its handler; resting: the next one
	// is waited for.
	serving, served, taken, resting atomic.Bool
	// leisure: this request may take as long as it takes.
	leisure atomic.Bool
	closed  sync.Once
	// ahead was read from the connection before its time.
	ahead []byte
	// turn is net/http's hold on the connection, or what it waits for; nil
	// without. Guarded by gate.mu.
	turn *turn
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
	for n == 0 && err == nil {
		n, err = c.Conn.Read(b[:])
	}
	c.ahead = append(c.ahead, b[:n]...)
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

func (c *conn) Close() error {
	c.closed.Do(func() { c.gate.forget(c) })
	return c.Conn.Close()
}

type connKey struct{}

func connOf(ctx context.Context) *conn {
	t, _ := ctx.Value(connKey{}).(*turn)
	return t.conn
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

	crowd
	mu     sync.Mutex
	seq    uint64
	conns  map[*conn]struct{}
	byUser map[uint32]int
	// firsts has something when a connection is no longer one that has said
	// nothing yet.
	firsts chan struct{}
}

// limits keeps a part of the process's descriptors for the daemon's own work
// and for other listeners: where only 1024 are allowed, the defaults would
// leave none.
func limits(most, mostPerUser int) (int, int) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) == nil && r.Cur < uint64(most)+512 {
		most = max(int(r.Cur)/4, 1)
	}
	return most, min(mostPerUser, max(most/2, 1))
}

func newGate(most, mostPerUser int, evict bool, who func(net.Conn) (peer, error), log *slog.Logger) *gate {
	return &gate{
		max: most, maxPerUser: mostPerUser, evict: evict, peer: who, log: log,
		conns: make(map[*conn]struct{}), byUser: make(map[uint32]int), firsts: make(chan struct{}, 1),
		crowd: newCrowd(),
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
	full, of := g.full(p.uid)
	if full && !g.evict && of == p.uid {
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
		g.evictOne(func(c *conn) bool { return c.peer.uid == of })
		if g.noted.now() {
			g.log.Warn("closed silent connections: too many are open", "uid", of, "limit", g.max)
		}
	}
	return c
}

// full tells whether another connection of uid is one too many, and whose
// connections are to blame: its own, or those of the user who has the most.
func (g *gate) full(uid uint32) (full bool, of uint32) {
	switch {
	case g.byUser[uid] >= g.maxPerUser:
		return true, uid
	case len(g.conns) < g.max:
		return false, 0
	}
	of = uid
	for user, n := range g.byUser {
		if n > g.byUser[of] {
			of = user
		}
	}
	return true, of
}

func anyConn(*conn) bool { return true }

// evictOne closes, among matching connections, the oldest that never sent a
// whole request, else the oldest idle one. It tells whether there was one.
func (g *gate) evictOne(match func(*conn) bool) bool {
	g.mu.Lock()
	var victim *conn
	for c := range g.conns {
		if c.serving.Load() || !match(c) {
			continue
		}
		if victim == nil || victim.served.Load() && !c.served.Load() ||
			victim.served.Load() == c.served.Load() && c.seq < victim.seq {
			victim = c
		}
	}
	g.mu.Unlock()
	if victim == nil {
		return false
	}
	victim.Close()
	return true
}

func (g *gate) forget(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.heard()
	delete(g.conns, c)
	if t := c.turn; t != nil && t.since.IsZero() {
		g.dequeue(t)
		close(t.given)
	}
	if g.byUser[c.peer.uid]--; g.byUser[c.peer.uid] <= 0 {
		delete(g.byUser, c.peer.uid)
		for uid := range g.queued { // the shares of the others have grown
			g.beginQueued(uid)
		}
	}
}

// heard says that there may be nobody any more who has said nothing.
func (g *gate) heard() {
	select {
	case g.firsts <- struct{}{}:
	default:
	}
}

// awaitFirst waits until every connection has had a request handled, but no longer
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
		if !c.taken.Load() {
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

// accept admits connections until closing is closed, which must also end
// ln.Accept. The error is why it ended otherwise.
func (g *gate) accept(ln net.Listener, closing <-chan struct{}) error {
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			if c := g.admit(nc); c != nil && !g.rest(c) {
				c.Close()
			}
			continue
		}
		select {
		case <-closing:
			return nil
		default:
		}
		switch {
		case errors.Is(err, syscall.ECONNABORTED):
			continue
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			if g.noted.now() {
				g.log.Warn("closing silent connections: no descriptors are left; raise the limit of open files (ulimit -n, LimitNOFILE=)", "error", err)
			}
			if pause == 0 && g.evictOne(anyConn) {
				pause = time.Millisecond
				continue
			}
		case !errors.Is(err, syscall.ENOBUFS) && !errors.Is(err, syscall.ENOMEM):
			return err
		}
		pause = min(max(2*pause, time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-closing:
			return nil
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
