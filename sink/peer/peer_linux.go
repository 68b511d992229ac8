package peer

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func credentials(fd int) (p Peer, groups []uint32, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, nil, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: int(cred.Pid)}, nil, nil
}

// supplementary is raw because the option's length is not known beforehand: for
// too small a buffer the kernel answers ERANGE and the length it wants. What
// cannot be read is no groups: nobody is let in by mistake.
func supplementary(fd int) []uint32 {
	groups := make([]uint32, 32)
	for range 3 {
		size := uint32(len(groups) * 4)
		_, _, errno := syscall.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return append([]uint32{}, groups[:size/4]...)
		case unix.ERANGE:
			groups = make([]uint32, size/4)
		default:
			return []uint32{}
		}
	}
	return []uint32{}
}

// Command names the process pid for people; empty when it cannot be told.
func Command(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
