package atomicfile

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A temporary file has one of a few names that follow from its target's, so
// that a leftover is found without listing a directory. While its writer lives
// it is locked: a file under such a name that can be locked is a leftover.
//
// Where others may write, too, they can keep all of these names taken. Then it
// has a random one, and what a crash leaves of that is not found again.
const tempNames = 4

const tempMark = ".itr-tmp"

// TempOf tells whether a file of this name is, or was left as, the temporary
// file of a [Write], and of which name.
func TempOf(name string) (target string, ok bool) {
	target, _, marked := strings.Cut(name, tempMark)
	target, hidden := strings.CutPrefix(target, ".")
	return target, marked && hidden
}

type temp struct {
	f    *os.File
	path string
	done bool
}

func tempPrefix(target string) string {
	dir, base := filepath.Split(target)
	// 255 bytes is the longest name on all common file systems.
	if len(base) > 220 {
		h := fnv.New64a()
		h.Write([]byte(base))
		base = fmt.Sprintf("%s~%016x", base[:200], h.Sum64())
	}
	return filepath.Join(dir, "."+base+tempMark)
}

// newTemp makes an empty file beside target that only we can open, and removes
// a leftover.
func newTemp(target string) (*temp, error) {
	prefix := tempPrefix(target)
	for i := range 2 * tempNames {
		name := prefix + strconv.Itoa(i)
		if i >= tempNames {
			name = fmt.Sprintf("%s-%016x", prefix, rand.Uint64())
		}
		t, err := claim(name)
		if err != nil {
			return nil, fmt.Errorf("make a temporary file beside it: %w", advise(err, filepath.Dir(target)))
		}
		if t != nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("the names of its temporary files are taken: remove %s*, unless other programs are writing there now", prefix)
}

// claim returns nil when somebody has the name.
func claim(path string) (*temp, error) {
	for range 10 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if errors.Is(err, fs.ErrExist) {
			if !removeLeftover(path) {
				return nil, nil
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		// Between the creation and the lock another writer may have taken the
		// file for a leftover: then it is locked, or gone from its name.
		if mine := lock(f) != locked && isAt(path, f); mine {
			return &temp{f: f, path: path}, nil
		}
		f.Close()
	}
	return nil, nil
}

func removeLeftover(path string) (removed bool) {
	f, err := openNoFollow(path, os.O_RDONLY)
	if err != nil {
		// A leftover from under a umask that took our own permission.
		if st, serr := os.Lstat(path); serr == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o400 == 0 {
			if uid, _ := owner(st); uid == os.Geteuid() {
				return os.Remove(path) == nil
			}
		}
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return false
	}
	if lock(f) != lockedByUs {
		return false
	}
	// Its writer may have renamed it to its target while we opened it.
	if !isAt(path, f) {
		return true
	}
	return os.Remove(path) == nil
}

// rename puts the file at target. The lock is held until the file is closed,
// so that nobody can have put another file under the temporary name.
func (t *temp) rename(target string) error {
	// os.Rename would first look whether target is a directory, which the
	// system refuses by itself.
	for {
		if err := syscall.Rename(t.path, target); err != syscall.EINTR {
			t.done = err == nil
			return err
		}
	}
}

// discard closes the file and, unless it was renamed, removes it.
func (t *temp) discard() {
	if !t.done {
		_ = os.Remove(t.path)
	}
	_ = t.f.Close()
}

type lockState int

const (
	lockedByUs lockState = iota
	locked
	unlockable // the file system has no locks: no leftover is removed there
)

func lock(f *os.File) lockState {
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		return lockedByUs
	case errors.Is(err, syscall.EWOULDBLOCK):
		return locked
	}
	return unlockable
}

func isAt(path string, f *os.File) bool {
	a, err := os.Lstat(path)
	if err != nil {
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}
