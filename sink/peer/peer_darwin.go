package peer

import (
	"os"

	"golang.org/x/sys/unix"
)

// credentials reads uid and groups together: LOCAL_PEERCRED gives at most
// 16 groups, the first of them the effective one.
func credentials(fd int) (p Peer, groups []uint32, err error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, nil, os.NewSyscallError("getsockopt LOCAL_PEERCRED", err)
	}
	n := min(max(int(cred.Ngroups), 0), len(cred.Groups))
	groups = append([]uint32{}, cred.Groups[:n]...)
	p = Peer{UID: cred.Uid, GID: Overflow}
	if n > 0 {
		p.GID = groups[0]
	}
	if pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
		p.PID = pid
	}
	return p, groups, nil
}

func supplementary(int) []uint32 { return []uint32{} }

// Command names the process pid for people; empty when it cannot be told.
func Command(int) string { return "" }
