package turns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"iam-token-refresher/sink/peer"
)

// gate limits how many connections there are, so that a client that opens
// thousands does not keep others out.
type gate struct {
	max, maxPerUser int
	// evict: a connection over the limit takes the place of one that has said
	// nothing for the longest time. Without it it is closed.
	evict bool
	peer  func(net.Conn) (peer.Peer, error)
	log   *slog.Logger
	noted Rarely

	crowd
	mu     sync.Mutex
	seq    uint64
	conns  map[*Conn]struct{}
	byUser map[uint32]int
	screen *screen
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

func newGate(o Options) *gate {
	most, mostPerUser := limits(o.Max, o.MaxPerUser)
	g := &gate{
		max: most, maxPerUser: mostPerUser, peer: o.Peer, log: o.Log,
		conns: make(map[*Conn]struct{}), byUser: make(map[uint32]int), firsts: make(chan struct{}, 1),
		crowd: newCrowd(),
	}
	if g.peer == nil {
		g.peer = func(net.Conn) (peer.Peer, error) { return peer.Anybody(), nil }
		g.maxPerUser, g.evict = g.max, true
	}
	return g
}

// admit returns nil for a connection that was closed instead. Who was let in
// after passed need not be screened by that.
func (g *gate) admit(nc net.Conn, passed *screen) *Conn {
	p, err := g.peer(nc)
	if err != nil {
		nc.Close() // it is gone already
		return nil
	}
	c := &Conn{Conn: nc, peer: p, gate: g}
	g.mu.Lock()
	if s := g.screen; s != nil && s != passed && !s.keep(&p) {
		g.mu.Unlock()
		nc.Close()
		return nil
	}
	full, of := g.full(p.UID)
	if full && !g.evict && of == p.UID {
		g.mu.Unlock()
		nc.Close()
		if g.noted.Now() {
			g.log.Warn("refused connections: a user has too many open", "uid", p.UID, "pid", p.PID, "limit", g.maxPerUser)
		}
		return nil
	}
	g.seq++
	c.seq = g.seq
	g.conns[c] = struct{}{}
	g.byUser[p.UID]++
	g.mu.Unlock()
	if full {
		evicted := g.evictOne(func(other *Conn) bool { return other != c && other.peer.UID == of })
		if !evicted && g.evict { // all are being answered; where users are known, another's do not keep one out
			c.Close()
			return nil
		}
		if g.noted.Now() {
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

func anyConn(*Conn) bool { return true }

// evictOne closes, among matching connections, the oldest that never sent a
// whole request, else the oldest idle one. It tells whether there was one.
func (g *gate) evictOne(match func(*Conn) bool) bool {
	g.mu.Lock()
	var victim *Conn
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

func (g *gate) forget(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.heard()
	delete(g.conns, c)
	if t := c.turn; t != nil && t.since.IsZero() {
		g.dequeue(t)
		close(t.given)
	}
	if g.byUser[c.peer.UID]--; g.byUser[c.peer.UID] <= 0 {
		delete(g.byUser, c.peer.UID)
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
func (g *gate) closeIf(which func(*Conn) bool) {
	g.mu.Lock()
	all := make([]*Conn, 0, len(g.conns))
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
	var passed *screen
	for {
		// Who comes once nobody waits came after the screen was settled.
		if s := g.settledScreen(); s != passed && noneWait(ln) {
			passed = s
		}
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			if c := g.admit(nc, passed); c != nil && !g.rest(c) {
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
			if g.noted.Now() {
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
