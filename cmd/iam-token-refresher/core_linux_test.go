package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

// A value in memory is in a core dump, and in what a debugger of the same user
// reads.
func TestMemoryIsNotForOthersWhateverTheCommand(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	play(t, emulator.Options{}, func(s *scene) {
		s.released()
		s.try(os.Chmod(s.dir, 0o755))
		s.configure("bot", plot{}, false)
		s.runAs(s.asDaemonUser)
		s.ready()
		watch, err := start(s.asDaemonUser(s.exec("get", "bot", "--watch", "--socket", "s")))
		s.try(err)
		s.Cleanup(watch.kill)
		s.printed(watch, 1)
		for _, p := range []*process{watch, s.daemon} {
			s.isClosed(p)
		}
	})
}

// isClosed looks whether somebody can get at the memory of a process of the
// daemon's user, and crashes it.
func (s *scene) isClosed(p *process) {
	s.Helper()
	command := strings.Join(p.cmd.Args[1:], " ")
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	// The hard limit stays, wherever these tests got it from: programs that the
	// daemon starts get theirs back.
	limits, err := os.ReadFile(proc + "limits")
	s.try(err)
	if fields := strings.Fields(between(string(limits), "Max core file size", "\n")); len(fields) < 2 || fields[0] != "0" {
		s.Fatalf("%s: the limits of core dumps are %q, of which the first is in force", command, fields)
	}
	for _, name := range []string{"mem", "environ", "maps", "fd"} {
		info, err := os.Stat(proc + name)
		s.try(err)
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
			s.Fatalf("%s: %s belongs to user %d and not to root, as when a process can be dumped", command, name, uid)
		}
		// The daemon's own user, and so whoever else runs as it.
		if err := as(daemonUser, func() error {
			f, err := os.Open(proc + name)
			if err == nil {
				f.Close()
			}
			return err
		}); !errors.Is(err, fs.ErrPermission) {
			s.Errorf("%s: the daemon's user may open %s: %v", command, name, err)
		}
	}
	if err := as(daemonUser, func() error {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PTRACE, syscall.PTRACE_ATTACH, uintptr(p.cmd.Process.Pid), 0); errno != 0 {
			return errno
		}
		return nil
	}); !errors.Is(err, syscall.EPERM) {
		s.Errorf("%s: a debugger of the daemon's user may attach: %v", command, err)
	}
	// A crash leaves no dump.
	s.try(p.signal(syscall.SIGABRT))
	_, err = p.wait()
	s.try(err)
	if p.cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
		s.Errorf("%s: a core was dumped", command)
	}
}
