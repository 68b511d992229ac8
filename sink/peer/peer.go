// Package peer tells who is at the other end of a connection of this machine.
package peer

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Overflow is what the kernel shows for users and groups that have no number
// in our user namespace: it can be anybody.
const Overflow = 65534

// Peer is who is at the other end of a connection, as the kernel noted when it
// connected. PID is 0 where it cannot be told.
type Peer struct {
	UID, GID uint32
	PID      int
	// groups reads the supplementary groups once, when an answer depends on
	// them.
	groups func() []uint32
}

// Anybody is at the other end of a TCP connection: nobody knows who.
func Anybody() Peer { return Peer{UID: Overflow, GID: Overflow} }

// Is tells whether the peer is the user uid.
func (p *Peer) Is(uid uint32) bool { return p.UID == uid && uid != Overflow }

// Admin tells whether the peer may do everything: uid 0 and our own uid.
func (p *Peer) Admin() bool { return p.UID == 0 || p.Is(uint32(os.Geteuid())) }

// In tells whether the peer is a member of one of the groups.
func (p *Peer) In(gids []uint32) bool {
	in := func(gid uint32) bool { return gid != Overflow && slices.Contains(gids, gid) }
	return len(gids) > 0 && (in(p.GID) || p.groups != nil && slices.ContainsFunc(p.groups(), in))
}

// Of asks the kernel who connected. The groups are asked for through the same
// connection later on: they are those of the moment of the connect too.
func Of(c net.Conn) (Peer, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return Peer{}, errors.New("the connection has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var groups []uint32
	var cerr error
	if err := raw.Control(func(fd uintptr) { p, groups, cerr = credentials(int(fd)) }); err != nil {
		return Peer{}, err
	}
	if cerr != nil {
		return Peer{}, cerr
	}
	p.groups = sync.OnceValue(func() []uint32 {
		if groups == nil {
			_ = raw.Control(func(fd uintptr) { groups = supplementary(int(fd)) })
		}
		return groups
	})
	return p, nil
}
