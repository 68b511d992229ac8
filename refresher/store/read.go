package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// maxSize is far above any state: values are up to 1,500 bytes.
	maxSize = 1 << 20
	// corruptMark stands between a file's name and when it was set aside.
	corruptMark = ".corrupt-"
	// keepCorrupt is how many files of one token are kept for a person to look at.
	keepCorrupt = 3
)

// read returns the state at path. What cannot be used it sets aside, and says
// so in the error, but not what the disk refused to read: it may be whole.
func (s *Store) read(path, token string) (record, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDisk) {
		return record{}, err
	}
	var r record
	if err == nil {
		r, err = decode(data, token)
	}
	if err != nil {
		return record{}, s.setAside(path, err)
	}
	return r, nil
}

var errDisk = errors.New("the disk cannot be read, the state is left where it is")

// readPrivate reads a file that nobody else can have written or read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, syscall.ELOOP):
		return nil, errors.New("it is a symbolic link")
	case errors.Is(err, syscall.ENXIO):
		return nil, errors.New("it is a socket")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("we may not read it: it is not our file")
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errDisk, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDisk, err)
	}
	uid := owner(st)
	switch {
	case !st.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case uid != os.Geteuid():
		return nil, fmt.Errorf("it belongs to user %d and not to us (%d)", uid, os.Geteuid())
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("its mode is %04o, others may have read or changed it", st.Mode().Perm())
	case st.Size() > maxSize:
		return nil, fmt.Errorf("it is %d bytes long", st.Size())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDisk, err)
	}
	return data, nil
}

// setAside renames a file that cannot be used, and says so.
func (s *Store) setAside(path string, why error) error {
	aside := path + corruptMark + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("%s cannot be used (%w) and not be set aside (%w): remove it", path, why, err)
	}
	s.prune(path)
	return fmt.Errorf("%s cannot be used: %w. It was set aside as %s", path, why, aside)
}

// prune removes the oldest files that were set aside.
func (s *Store) prune(path string) {
	dir, base := filepath.Split(path)
	files, _ := os.ReadDir(dir)
	var old []string // in the order of time, because the directory is sorted
	for _, f := range files {
		if strings.HasPrefix(f.Name(), base+corruptMark) {
			old = append(old, f.Name())
		}
	}
	slices.Sort(old)
	for _, name := range old[:max(0, len(old)-keepCorrupt)] {
		_ = os.Remove(filepath.Join(dir, name))
	}
}
