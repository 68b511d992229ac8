package emulator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dirLock keeps a second emulator out of a directory. The lock is on a file in
// it, because daemons lock the directories that they make sockets in, and ends
// with the process, however it ends.
type dirLock struct{ file *os.File }

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
	file, err := os.OpenFile(filepath.Join(path, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fail(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errors.New("another iam-emulator uses it: give each one a directory of its own")
		}
		return fail(err)
	}
	return &dirLock{file}, nil
}

func (l *dirLock) release() error { return l.file.Close() }
