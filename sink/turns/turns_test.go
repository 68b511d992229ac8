package turns

import (
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/sink/peer"
)

// root is at the other end of everything.
func root(net.Conn) (peer.Peer, error) { return peer.Peer{}, nil }

func TestUsersShareTheTurnsEvenly(t *testing.T) {
	t.Parallel()
	g := newGate(Options{Max: 100, MaxPerUser: 100, Peer: root})
	begin := func(uid uint32) bool {
		c := &Conn{peer: peer.Peer{UID: uid}, gate: g}
		g.conns[c] = struct{}{}
		g.byUser[uid]++
		if !g.mayBegin(uid) {
			return false
		}
		g.begin(&turn{Conn: c})
		return true
	}
	for i := range Most + 1 {
		if got := begin(1); got != (i < Most) {
			t.Fatalf("turn %d of the only user: %v", i+1, got)
		}
	}
	for i := range Most/2 + 1 {
		if got := begin(2); got != (i < Most/2) {
			t.Fatalf("turn %d of the second user: %v", i+1, got)
		}
	}
	for uid := range uint32(Most * 2) {
		if !begin(100 + uid) {
			t.Fatalf("user %d of %d has no turn", uid+1, 2*Most)
		}
	}
}

// Where users share the turns, one that leaves makes room for the others.
func TestWhoeverWaitsForATurnGetsThatOfAUserWhoLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		uid := uint32(1)
		g := newGate(Options{Max: 4096, MaxPerUser: 2048, Peer: func(net.Conn) (peer.Peer, error) { return peer.Peer{UID: uid}, nil }})
		connect := func(of uint32) *Conn {
			uid = of
			_, far := net.Pipe()
			return g.admit(far, nil)
		}
		other := connect(2)
		for range Most / 2 {
			if g.takeTurn(connect(1)) == nil {
				t.Fatal("there is no turn")
			}
		}
		given := make(chan *turn)
		last := connect(1)
		go func() { given <- g.takeTurn(last) }()
		synctest.Wait()
		begin := time.Now()
		other.Close()
		if turn := <-given; turn == nil || time.Since(begin) != 0 {
			t.Errorf("a turn was given: %t, after %v", turn != nil, time.Since(begin))
		}
		g.end()
	})
}

// Those who rest have had their answer, and the new one has not: it is not the
// one that makes room for itself.
func TestANewConnectionTakesThePlaceOfTheOldestThatRests(t *testing.T) {
	t.Parallel()
	g := newGate(Options{Max: 2, MaxPerUser: 2, Log: slog.New(slog.DiscardHandler)})
	admit := func() (near net.Conn, c *Conn) {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		return near, g.admit(far, nil)
	}
	gone := func(c *Conn) bool { g.mu.Lock(); defer g.mu.Unlock(); _, open := g.conns[c]; return !open }
	_, first := admit()
	_, second := admit()
	first.served.Store(true)
	second.served.Store(true)
	_, third := admit()
	if third == nil || !gone(first) || gone(second) || gone(third) {
		t.Errorf("gone: %t %t %t, want the first alone", gone(first), gone(second), gone(third))
	}
	second.serving.Store(true)
	third.serving.Store(true)
	if _, fourth := admit(); fourth != nil || gone(second) || gone(third) {
		t.Error("where all are being answered there is no room, and somebody got some")
	}
}

func TestUsersWhoAreAllBeingAnsweredDoNotKeepAnotherOut(t *testing.T) {
	t.Parallel()
	var uid uint32
	g := newGate(Options{
		Max: 4, MaxPerUser: 2, Log: slog.New(slog.DiscardHandler),
		Peer: func(net.Conn) (peer.Peer, error) { return peer.Peer{UID: uid}, nil },
	})
	for _, uid = range []uint32{1, 1, 2, 2, 3} {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		c := g.admit(far, nil)
		if c == nil {
			t.Fatalf("user %d was kept out", uid)
		}
		c.serving.Store(true)
	}
}
