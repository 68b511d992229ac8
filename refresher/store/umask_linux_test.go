package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"iam-token-refresher/refresher"
)

// The umask can take the rights of whom it is for, then as well as later.
func TestNoUmaskKeepsUsFromOurOwnState(t *testing.T) {
	t.Parallel()
	for _, mask := range []int{0o477, 0o277, 0o177, 0o777} {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			t.Parallel()
			parent, err := os.MkdirTemp("", "store") // that others may enter
			must(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(parent) })
			must(t, os.Chmod(parent, 0o777))
			dir, leftover := filepath.Join(parent, "state"), filepath.Join(parent, "leftover")
			errs := map[string]error{}
			tryOpen := func(call, dir string) {
				errs["Check "+call] = Check(dir)
				s, err := Open(dir, Options{})
				errs["Open "+call] = err
				if err == nil {
					errs["Save "+call] = s.Save(t.Context(), "bot", "fp", version("bot", 1), refresher.Finding{})
					_ = s.Close()
				}
			}
			underUmask(t, mask, func() {
				tryOpen("at first", dir)
				tryOpen("again", dir)
				errs["make a leftover"] = os.Mkdir(leftover, 0o700)
				tryOpen("a leftover", leftover)
				errs["remove the lock"] = os.Remove(filepath.Join(leftover, lockName))
				f, err := os.OpenFile(filepath.Join(leftover, lockName), os.O_RDWR|os.O_CREATE, 0o600)
				if errs["make a lock"] = err; err == nil {
					_ = f.Close()
				}
				tryOpen("a leftover's lock", leftover)
			})
			for call, err := range errs {
				if err != nil {
					t.Errorf("%s: %v", call, err)
				}
			}
			for path, want := range map[string]os.FileMode{dir: 0o700, leftover: 0o700, filepath.Join(dir, lockName): 0o600} {
				if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
					t.Errorf("%s: %v, %v", path, st, err)
				}
			}
		})
	}
}

// underUmask runs f as an ordinary user under that umask, on a thread that ends
// with it: on Linux both can belong to a thread.
func underUmask(t *testing.T, mask int, f func()) {
	t.Helper()
	const uid = 1234
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_FS); err != nil {
			done <- err
			return
		}
		syscall.Umask(mask)
		for _, call := range [][2]uintptr{{syscall.SYS_SETGROUPS, 0}, {syscall.SYS_SETRESGID, uid}, {syscall.SYS_SETRESUID, uid}} {
			if os.Getuid() != 0 {
				break
			}
			if _, _, errno := syscall.RawSyscall(call[0], call[1], call[1], call[1]); errno != 0 {
				done <- errno
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Skipf("no umask of our own: %v", err)
	}
}
