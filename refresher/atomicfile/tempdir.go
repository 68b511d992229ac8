package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// tempDir is a directory that nobody else sees yet. It is locked while its
// writer lives: one that can be locked is a leftover.
type tempDir struct {
	f    *os.File
	path string
	done bool
}

// claimDir makes an empty directory that only we can open, and removes a
// leftover.
func claimDir(path string) (*tempDir, error) {
	for range 10 {
		err := os.Mkdir(path, 0o700)
		made := err == nil
		if !made && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err := openNoFollow(path, os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another writer has just renamed it, or took it for a leftover
		}
		if err != nil {
			return nil, err
		}
		mine := lock(f) != locked && isAt(path, f)
		if made && mine {
			return &tempDir{f: f, path: path}, nil
		}
		if mine {
			err = removeDir(path)
		}
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("another program is writing %s now: let only one do so", path)
}

// fill writes the files and gives the directory its final permissions.
func (t *tempDir) fill(files map[string][]byte, opt Options) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := Write(filepath.Join(t.path, name), files[name], opt); err != nil {
			return err
		}
	}
	if err := setAttributes(t.f, setDirOptions(opt)); err != nil {
		return err
	}
	if err := syncDir(t.f); err != nil {
		return fmt.Errorf("sync %s: %w", t.path, advise(err, t.path))
	}
	return nil
}

func (t *tempDir) rename(path string) error {
	err := os.Rename(t.path, path)
	if err == nil {
		t.path = path
	}
	return err
}

// discard unlocks the directory and, unless it is done, removes it.
func (t *tempDir) discard() {
	if !t.done {
		_ = removeDir(t.path)
	}
	_ = t.f.Close()
}

// removeDir removes a directory of files. One with a directory in it is none
// that we made.
func removeDir(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s holds %s, which is not ours: remove it", path, e.Name())
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(path)
}
