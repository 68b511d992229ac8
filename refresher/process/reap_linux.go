package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieWithUs has the kernel kill the program when we are gone.
func dieWithUs(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// awaitEnd waits for the end of a child, ok with exit code 0, and leaves it to be
// waited for; seen is false where that cannot be done.
func awaitEnd(pid int) (ok, seen bool) {
	var info unix.Siginfo
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	}
	const exited = 1 // CLD_EXITED
	return info.Code == exited && childOf(&info).status == 0, err == nil
}

// Reap waits for the orphans that are left to us, until ctx is done. Where we
// are not init nobody leaves us any, and it returns at once.
func (o *Owner) Reap(ctx context.Context) {
	if os.Getpid() == 1 {
		o.reap(ctx)
	}
}

func (o *Owner) reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		o.reapAll()
		select {
		case <-ended:
		case <-o.rung:
		case <-ctx.Done():
			return
		}
	}
}

// reapAll waits for whoever has ended and is not ours. The kernel shows one
// process that has ended at a time, always the same until somebody waited for
// it: behind one of ours we go on when it was waited for, which rings.
func (o *Owner) reapAll() {
	o.mu.Lock() // nothing here blocks
	defer o.mu.Unlock()
	for o.starting == 0 {
		pid := endedChild()
		if pid <= 0 || o.ours[pid] {
			return
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// endedChild is the PID of a child that has ended and was not waited for;
// 0 when there is none.
func endedChild() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil || info.Signo == 0 {
		return 0 // no children at all, or none that has ended
	}
	return int(childOf(&info).pid)
}

// childInfo is what a [unix.Siginfo] says of a child.
type childInfo struct {
	pid    int32
	uid    uint32
	status int32 // its exit code, or a signal
}

// childOf reads the union behind the three numbers that info begins with, which
// is aligned as pointers are; see sigaction(2).
func childOf(info *unix.Siginfo) *childInfo {
	const align = unsafe.Sizeof(uintptr(0))
	const offset = (3*4 + align - 1) / align * align
	return (*childInfo)(unsafe.Add(unsafe.Pointer(info), offset))
}
