package sink

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
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

// inForeground tells whether we are in the process group that our terminal sends
// its signals to and lets read. That needs no stdin that is the terminal: ssh,
// sudo and less open /dev/tty, which asks for no more than this.
func inForeground(stdin *os.File) bool {
	group, err := foreground(stdin) // also where there is no /dev
	if err != nil {
		tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			return false
		}
		defer tty.Close()
		if group, err = foreground(tty); err != nil {
			return false
		}
	}
	return group == syscall.Getpgrp()
}

// isJob tells whether our program is to be in our process group: started in the
// foreground of a terminal, or with one to read, we are a job of a shell, and the
// program a part of it. Ctrl-C and Ctrl-Z reach us both, as do fg and bg, and it
// may read the terminal; what it leaves behind is the user's, as without us.
//
// Elsewhere (services, nohup and redirected background jobs) a group of its own
// makes sure that nothing of it is left, and that the end of a terminal which we
// have by chance is not the program's. To be asked once: a job that is sent to the
// background stays one, also when its program is restarted there.
func isJob(stdin *os.File) bool { return isTerminal(stdin) || inForeground(stdin) }

// toldByTerminal tells whether a signal of the kind that a terminal sends was
// sent to the program as well: we are one group, and in the foreground. (Who
// sends us one with kill meanwhile is not heard by it: nobody can tell the two
// apart.)
func (c *child) toldByTerminal(s syscall.Signal, stdin *os.File) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT:
	default:
		return false
	}
	return !c.group && inForeground(stdin)
}
