package sink

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
)

// peer is who is at the other end of a connection, as the kernel noted when it
// connected.
type peer struct {
	uid, gid uint32
	pid      int
	// groups reads the supplementary groups once, when an answer depends on
	// them.
	groups func() []uint32
}

// admin tells whether the peer may do everything: uid 0 and our own uid.
func (p *peer) admin() bool {
	return p.uid == 0 || p.uid == uint32(os.Geteuid()) && p.uid != overflowID
}

func (p *peer) may(a *allowed) bool {
	if a == nil || p.admin() {
		return true
	}
	if p.uid != overflowID && slices.Contains(a.uids, p.uid) {
		return true
	}
	if len(a.gids) == 0 {
		return false
	}
	in := func(gid uint32) bool { return gid != overflowID && slices.Contains(a.gids, gid) }
	return in(p.gid) || p.groups != nil && slices.ContainsFunc(p.groups(), in)
}

// peerOf asks the kernel who connected. The groups are asked for through the
// same connection later on: they are those of the moment of the connect too.
func peerOf(c net.Conn) (peer, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return peer{}, errors.New("the connection has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var p peer
	var groups []uint32
	var cerr error
	if err := raw.Control(func(fd uintptr) { p, groups, cerr = peerCredentials(int(fd)) }); err != nil {
		return peer{}, err
	}
	if cerr != nil {
		return peer{}, cerr
	}
	p.groups = sync.OnceValue(func() []uint32 {
		if groups == nil {
			_ = raw.Control(func(fd uintptr) { groups = peerGroups(int(fd)) })
		}
		return groups
	})
	return p, nil
}
