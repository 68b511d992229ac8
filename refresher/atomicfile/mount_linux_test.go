package atomicfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestAMountedFileNamesBothRemedies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, source := filepath.Join(dir, "token"), filepath.Join(dir, "source")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.WriteFile(source, []byte("old"), 0o600))
	mount(t, source, path, "", syscall.MS_BIND, "")
	for call, err := range map[string]error{
		"Write": Write(path, []byte("secret"), plain),
		"Check": Check(path, plain),
	} {
		wantError(t, call, err, "mount its directory")
		wantError(t, call, err, "write: in_place")
		if !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%s: %v does not wrap EBUSY", call, err)
		}
	}
	if got := entries(t, dir); got != "source token" {
		t.Errorf("the directory holds %s", got)
	}
	opt := plain
	opt.InPlace = true
	must(t, os.Chown(source, 1234, -1)) // whose it is, the mount says
	must(t, Check(path, opt))
	must(t, Write(path, []byte("secret"), opt))
	if got := read(t, source); got != "secret" {
		t.Errorf("the mounted file holds %q", got)
	}
}

func TestAFullDiskLeavesTheOldFileAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k")
	path := filepath.Join(dir, "token")
	must(t, Write(path, []byte("old"), plain))
	err := Write(path, bytes.Repeat([]byte("x"), 128<<10), plain)
	wantError(t, "Write", err, "make room on the file system of "+dir)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v does not wrap ENOSPC", err)
	}
	if got := read(t, path); got != "old" {
		t.Errorf("the file holds %d bytes, want the old ones", len(got))
	}
	onlyEntry(t, dir, "token")
}

func TestAReadOnlyDiskIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", syscall.MS_RDONLY, "size=64k")
	path := filepath.Join(dir, "token")
	wantError(t, "Write", Write(path, nil, plain), "not read-only")
	wantError(t, "Check", Check(path, plain), "not read-only")
}

func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("mounting needs privileges: %v", err)
	}
	t.Cleanup(func() {
		// A process that another test starts has all our files until its exec: so
		// the mount may still be in use for a moment.
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}
