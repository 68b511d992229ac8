package turns

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"iam-token-refresher/sink/peer"
)

// screen is what connections are measured by that may have been made when other
// people could connect.
type screen struct {
	keep func(*peer.Peer) bool
	// settled: whom keep is against cannot connect any more. Guarded by gate.mu.
	settled bool
}

// Screen closes the connections of the peers that keep is false for, and goes
// on doing so with new ones. Once these cannot connect any more, settled is to
// be called: then it ends with those who wait to be accepted. keep must not
// block.
func (s *Server) Screen(keep func(*peer.Peer) bool) (settled func()) {
	g := s.gate
	now := &screen{keep: keep}
	g.mu.Lock()
	g.screen = now
	g.mu.Unlock()
	s.Disconnect(func(p *peer.Peer) bool { return !keep(p) })
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		now.settled = true
	}
}

// settledScreen is the screen, if it is settled.
func (g *gate) settledScreen() *screen {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.screen; s != nil && s.settled {
		return s
	}
	return nil
}

// noneWait tells whether it is certain that no connection waits to be accepted.
func noneWait(ln net.Listener) bool {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	none := false
	_ = raw.Control(func(fd uintptr) { none = !wouldNotWait(fd, unix.POLLIN) })
	return none
}
