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
func TestMemoryOfTheDaemonIsNotForOthers(t *testing.T) {
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
		proc := fmt.Sprintf("/proc/%d/", s.daemon.cmd.Process.Pid)
		// The hard limit stays, wherever these tests got it from: programs that the
		// daemon starts get theirs back.
		limits, err := os.ReadFile(proc + "limits")
		s.try(err)
		if fields := strings.Fields(between(string(limits), "Max core file size", "\n")); len(fields) < 2 || fields[0] != "0" {
			s.Errorf("the limits of core dumps are %q, of which the first is in force", fields)
		}
		for _, name := range []string{"mem", "environ", "maps", "fd"} {
			info, err := os.Stat(proc + name)
			s.try(err)
			if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
				s.Errorf("%s belongs to user %d and not to root, as when a process can be dumped", name, uid)
			}
			// The daemon's own user, and so whoever else runs as it.
			if err := as(daemonUser, func() error {
				f, err := os.Open(proc + name)
				if err == nil {
					f.Close()
				}
				return err
			}); !errors.Is(err, fs.ErrPermission) {
				s.Errorf("the daemon's user may open %s: %v", name, err)
			}
		}
		if err := as(daemonUser, func() error {
			if _, _, errno := syscall.RawSyscall(syscall.SYS_PTRACE, syscall.PTRACE_ATTACH, uintptr(s.daemon.cmd.Process.Pid), 0); errno != 0 {
				return errno
			}
			return nil
		}); !errors.Is(err, syscall.EPERM) {
			s.Errorf("a debugger of the daemon's user may attach: %v", err)
		}
		// A crash leaves no dump.
		s.try(s.daemon.signal(syscall.SIGABRT))
		_, err = s.daemon.wait()
		s.try(err)
		if s.daemon.cmd.ProcessState.Sys().(syscall.WaitStatus).CoreDump() {
			s.Error("a core was dumped")
		}
	})
}
