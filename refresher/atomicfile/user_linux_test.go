package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestOthersAreToldWhatTheyMayNotDo(t *testing.T) {
	t.Parallel()
	dir := sharedDir(t)
	foreign, own := filepath.Join(dir, "foreign"), filepath.Join(dir, "own")
	closed := filepath.Join(dir, "closed")
	must(t, os.Mkdir(closed, 0o755))
	must(t, os.WriteFile(foreign, []byte("x"), 0o666))
	must(t, os.Chmod(foreign, 0o666))
	errs := map[string]error{}
	var ownErr error
	asUser(t, 1234, func() {
		inPlace := plain
		inPlace.InPlace = true
		for call, f := range map[string]func(string, Options) error{
			"Check": Check,
			"Write": func(path string, opt Options) error { return Write(path, []byte("secret"), opt) },
		} {
			errs[call+": read and write the directory "+closed] = f(filepath.Join(closed, "token"), plain)
			errs[call+": only root may give files away"] = f(own, Options{Mode: 0o600, UID: 4321, GID: -1})
			errs[call+": run as a member of that group"] = f(own, Options{Mode: 0o600, UID: -1, GID: 4321})
			errs[call+": ours"] = f(foreign, inPlace) // its mode is another
		}
		errs["Check: its directory is sticky: remove it"] = Check(foreign, plain)
		errs["Write: operation not permitted"] = Write(foreign, []byte("secret"), plain)
		ownErr = Write(own, []byte("x"), plain)
	})
	must(t, ownErr)
	for want, err := range errs {
		call, text, _ := strings.Cut(want, ": ")
		wantError(t, call, err, text)
	}
	if got := entries(t, dir); got != "closed foreign own" {
		t.Errorf("the directory holds %s", got)
	}
	if got := read(t, foreign); got != "x" {
		t.Errorf("somebody else's file holds %q now", got)
	}
}

func TestAFileThatMayNotBeReadSaysSo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(sharedDir(t), "token")
	must(t, Write(path, []byte("x"), Options{Mode: 0o600, UID: -1, GID: -1}))
	var err error
	asUser(t, 1234, func() { err = Holds(path, []byte("x"), plain) })
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("Holds: %v does not wrap fs.ErrPermission", err)
	}
}

// sharedDir is sticky and open to everybody, as /tmp is.
func TestASetIsGivenToItsOwnerAndGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	dir := filepath.Join(sharedDir(t), "set")
	opt := Options{Mode: 0o440, UID: 1234, GID: 2345}
	must(t, WriteSet(dir, numbered(1), opt))
	must(t, HoldsSet(dir, numbered(1), opt))
	wantError(t, "HoldsSet", HoldsSet(dir, numbered(1), Options{Mode: 0o440, UID: 1235, GID: 2345}), "its owner is 1234")
	var got int
	var err error
	asUser(t, 1234, func() { got, err = readSet(dir) })
	if err != nil || got != 1 {
		t.Errorf("its owner reads %d, %v", got, err)
	}
}

func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "atomicfile")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777|os.ModeSticky))
	return dir
}

// The umask can take the rights of whom it is for.
func TestNoUmaskKeepsUsFromOurOwn(t *testing.T) {
	t.Parallel()
	for _, mask := range []int{0o477, 0o277, 0o177, 0o777} {
		t.Run(fmt.Sprintf("%04o", mask), func(t *testing.T) {
			t.Parallel()
			dir := sharedDir(t)
			set, file, leftover := filepath.Join(dir, "set"), filepath.Join(dir, "file"), filepath.Join(dir, "leftover")
			errs := map[string]error{}
			underUmask(t, mask, 1234, func() {
				errs["Write"] = Write(file, []byte("x"), plain)
				errs["CheckSet"] = CheckSet(set, numbered(1), plain)
				errs["WriteSet"] = WriteSet(set, numbered(1), plain)
				errs["make a leftover in it"] = os.Mkdir(filepath.Join(set, "..new"), 0o700)
				errs["WriteSet again"] = WriteSet(set, numbered(2), plain)
				errs["HoldsSet"] = HoldsSet(set, numbered(2), plain)
				errs["make a leftover"] = os.Mkdir(leftover, 0o700)
				errs["CheckSet of a leftover"] = CheckSet(leftover, numbered(1), plain)
				errs["WriteSet of a leftover"] = WriteSet(leftover, numbered(1), plain)
				errs["HoldsSet of a leftover"] = HoldsSet(leftover, numbered(1), plain)
			})
			for call, err := range errs {
				if err != nil {
					t.Errorf("%s: %v", call, err)
				}
			}
			for _, path := range []string{set, leftover} {
				if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o750 {
					t.Errorf("%s is %v, %v", path, st, err)
				}
			}
		})
	}
}

// underUmask runs f as an ordinary user under that umask, on a thread that ends
// with it.
func underUmask(t *testing.T, mask int, uid uintptr, f func()) {
	t.Helper()
	masked := func() {
		// Else the umask would be the whole process's.
		if err := syscall.Unshare(syscall.CLONE_FS); err != nil {
			t.Skipf("no umask of our own: %v", err)
		}
		syscall.Umask(mask)
		f()
	}
	if os.Geteuid() == 0 {
		asUser(t, uid, masked)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		masked()
	}()
	<-done
}

// asUser runs f as another user, on a thread that ends with it: on Linux ids
// belong to threads.
func asUser(t *testing.T, uid uintptr, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		for _, call := range [][2]uintptr{{syscall.SYS_SETGROUPS, 0}, {syscall.SYS_SETRESGID, uid}, {syscall.SYS_SETRESUID, uid}} {
			id := call[1]
			if _, _, errno := syscall.RawSyscall(call[0], id, id, id); errno != 0 {
				done <- errno
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Fatalf("become user %d: %v", uid, err)
	}
}
