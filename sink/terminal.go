package sink

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := foreground(f)
	return err == nil
}

// foreground is the process group that the terminal f sends its signals to. It
// is an error when f is not our terminal.
func foreground(f *os.File) (group int, err error) {
	conn, err := f.SyscallConn() // Fd would make f blocking
	if err != nil {
		return 0, err
	}
	inner := conn.Control(func(fd uintptr) { group, err = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) })
	if inner != nil {
		return 0, inner
	}
	return group, err
}

// toldByTerminal tells whether a signal of the kind that a terminal sends was
// sent to the program as well: we are one group, and in the foreground. (Who
// sends us one with kill meanwhile is not heard by it: nobody can tell the two
// apart.)
func (c *child) toldByTerminal(s os.Signal, terminal *os.File) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT:
	default:
		return false
	}
	if c.group {
		return false
	}
	group, err := foreground(terminal)
	return err == nil && group == syscall.Getpgrp()
}
