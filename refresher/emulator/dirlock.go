package emulator

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// dirLock keeps a second emulator out of a directory. The lock is on the
// directory itself and ends with the process, however it ends.
type dirLock struct{ dir *os.File }

// lockDir makes the directory if it is missing, checks that files can be made
// in it, and locks it. Errors are an [*OptionError].
func lockDir(path string) (*dirLock, error) {
	fail := func(err error) (*dirLock, error) {
		return nil, &OptionError{fmt.Errorf("use directory %s: %w", path, err)}
	}
	if err := validPath(path); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err)
	}
	probe, err := os.CreateTemp(path, ".writable.*")
	if err != nil {
		return fail(err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fail(err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = dir.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errors.New("another iam-emulator uses it: give each one a directory of its own")
		}
		return fail(err)
	}
	return &dirLock{dir}, nil
}

func (l *dirLock) release() error { return l.dir.Close() }
