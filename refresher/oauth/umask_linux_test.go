package oauth

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// The umask can take the rights of whom it is for, then as well as later.
func TestNoUmaskKeepsUsFromOurOwnLock(t *testing.T) {
	t.Parallel()
	for _, mask := range []int{0o477, 0o277, 0o777} {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "oauth") // that others may enter
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			errs := map[string]error{}
			login, leftover := filepath.Join(dir, "login"), filepath.Join(dir, "leftover")
			underUmask(t, mask, func() {
				errs["make a leftover"] = os.WriteFile(leftover+".lock", nil, 0o600)
				for call, path := range map[string]string{"at first": login, "of a leftover": leftover} {
					for _, again := range []string{"", ", again"} {
						unlock, err := (&loginFile{path: path}).lockOthers(t.Context())
						if errs["lock "+call+again] = err; err == nil {
							unlock()
						}
					}
				}
			})
			for call, err := range errs {
				if err != nil {
					t.Errorf("%s: %v", call, err)
				}
			}
			if st, err := os.Stat(login + ".lock"); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("the lock is %v, %v", st, err)
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
