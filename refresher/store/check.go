package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Check tells whether [Open] of dir would work now, as far as can be known
// without making it, and leaves nothing behind. It is a [*LockedError] when
// another process has dir.
func Check(dir string) error {
	if err := check(dir); err != nil {
		return fmt.Errorf("open state directory: %w", err)
	}
	return nil
}

func check(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := access(filepath.Dir(dir)); err != nil {
			return adviseCreate(dir, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", dir, bare(err))
	}
	if err := ours(dir, st); err != nil {
		return err
	}
	if err := checkShared(dir, st); err != nil {
		return err
	}
	path := filepath.Join(dir, lockName)
	// Open sees to these; whoever has the directory did so.
	if barred(dir, 0o700) || barred(path, 0o600) {
		return nil
	}
	lock, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = access(dir)
	case err == nil:
		defer lock.Close()
		// Shared: two checks at a time are none's harm.
		if err := flock(lock, syscall.LOCK_SH); errors.Is(err, syscall.EWOULDBLOCK) {
			return holder(dir, lock)
		}
		_ = flock(lock, syscall.LOCK_UN)
		// What is there can be loaded from a file system that is read-only.
		if err = access(dir, path); errors.Is(err, syscall.EROFS) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w: we must be able to write the directory", dir, bare(err))
	}
	return nil
}

func checkShared(dir string, st fs.FileInfo) error {
	if st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	f, err := os.Open(dir)
	if err == nil {
		defer f.Close()
		err = notShared(dir, f, st)
	}
	if refused := new(sharedError); err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("look into %s: %w", dir, bare(err))
	}
	return err
}

// access returns nil when we may write in dir, and write the files.
func access(dir string, files ...string) error {
	err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	for _, path := range files {
		if err == nil {
			err = unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
		}
	}
	return err
}
