package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

func isTTY(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// harden keeps values out of core dumps and other processes' reach. What the
// kernel refuses is not fatal: the sandbox may have done it already.
func harden() {
	// The kernel dumps no core of such a process (prctl(2)), and a program that
	// it starts is an ordinary one again. A limit of 0 it would inherit.
	if unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) != nil {
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	}
}
