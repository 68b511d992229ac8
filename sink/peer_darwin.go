package sink

import (
	"os"

	"golang.org/x/sys/unix"
)

// maxSocketPath is sun_path of unix(4) less its final zero.
const maxSocketPath = 103

// peerCredentials reads uid and groups together: LOCAL_PEERCRED gives at most
// 16 groups, the first of them the effective one.
func peerCredentials(fd int) (p peer, groups []uint32, err error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return peer{}, nil, os.NewSyscallError("getsockopt LOCAL_PEERCRED", err)
	}
	n := min(max(int(cred.Ngroups), 0), len(cred.Groups))
	groups = append([]uint32{}, cred.Groups[:n]...)
	p = peer{uid: cred.Uid, gid: overflowID}
	if n > 0 {
		p.gid = groups[0]
	}
	if pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
		p.pid = pid
	}
	return p, groups, nil
}

func peerGroups(int) []uint32 { return []uint32{} }

func processName(int) string { return "" }
