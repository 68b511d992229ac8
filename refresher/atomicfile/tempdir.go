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
//
// Whoever owns the directory around it can put a link to anywhere in its place,
// at any moment. So all that is made, filled and removed is named from an open
// directory on, which does not lead out of it.
type tempDir struct {
	in   *os.Root // the directory around it; whoever claimed closes it
	root *os.Root
	f    *os.File // root, to lock and to sync
	name string
	done bool
}

// openRoot opens the directory at path itself, not what a link there leads to.
func openRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	named, err := os.Lstat(path)
	return sameRoot(root, named, err)
}

// openRootIn is openRoot for a name in a directory. It is not confused with
// what a link leads to within that directory either.
func openRootIn(in *os.Root, name string) (*os.Root, error) {
	named, err := in.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !named.IsDir():
		return nil, fmt.Errorf("its %s is not ours: remove it", name)
	}
	root, err := in.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return sameRoot(root, named, nil)
}

func sameRoot(root *os.Root, named fs.FileInfo, err error) (*os.Root, error) {
	opened, operr := root.Stat(".")
	if err = errors.Join(err, operr); err == nil && !os.SameFile(named, opened) {
		err = errReplaced
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return root, nil
}

var errReplaced = errors.New("somebody else replaced it in the same moment: let only one program write it")

// openDirIn opens a directory by itself, to lock, sync and list it.
func openDirIn(root *os.Root) (*os.File, error) { return root.Open(".") }

// claimDir makes an empty directory that only we can open, and removes a
// leftover.
func claimDir(in *os.Root, name string) (*tempDir, error) {
	for range 10 {
		err := in.Mkdir(name, 0o700)
		made := err == nil
		if !made && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		t, err := openTempDir(in, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errReplaced) {
			continue // another writer has just renamed it, or took it for a leftover
		}
		if err != nil {
			return nil, err
		}
		mine := lock(t.f) != locked && t.isAt(name)
		if st, err := t.f.Stat(); mine && err == nil && st.Mode().Perm()&0o700 != 0o700 {
			_ = t.f.Chmod(st.Mode().Perm() | 0o700) // the umask took our right to write
		}
		if made && mine {
			return t, nil
		}
		if mine {
			err = t.remove()
		}
		t.close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("another program is writing %s now: let only one do so", filepath.Join(in.Name(), name))
}

func openTempDir(in *os.Root, name string) (*tempDir, error) {
	root, f, err := openBarred(in, name)
	if err != nil {
		return nil, err
	}
	return &tempDir{in: in, root: root, f: f, name: name}, nil
}

// openBarred opens a directory also when it is ours and the umask that it was
// made under took our own rights. Only then are they changed: by the name, under
// which somebody else may have put another.
func openBarred(in *os.Root, name string) (*os.Root, *os.File, error) {
	root, f, err := openBoth(in, name)
	if !errors.Is(err, fs.ErrPermission) {
		return root, f, err
	}
	st, serr := in.Lstat(name)
	if serr != nil || !st.IsDir() || st.Mode().Perm()&0o700 == 0o700 {
		return nil, nil, err
	}
	if uid, _ := owner(st); uid != os.Geteuid() || in.Chmod(name, st.Mode().Perm()|0o700) != nil {
		return nil, nil, err
	}
	return openBoth(in, name)
}

func openBoth(in *os.Root, name string) (*os.Root, *os.File, error) {
	root, err := openRootIn(in, name)
	if err != nil {
		return nil, nil, err
	}
	f, err := openDirIn(root)
	if err != nil {
		_ = root.Close()
		return nil, nil, err
	}
	return root, f, nil
}

// isAt tells whether the directory is what has this name.
func (t *tempDir) isAt(name string) bool {
	named, err := t.in.Lstat(name)
	if err != nil {
		return false
	}
	st, err := t.f.Stat()
	return err == nil && os.SameFile(named, st)
}

func (t *tempDir) path() string { return filepath.Join(t.in.Name(), t.name) }

// fill writes the files and gives the directory its final permissions.
func (t *tempDir) fill(files map[string][]byte, opt Options) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := t.write(name, files[name], opt); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(t.path(), name), err)
		}
	}
	if err := setAttributes(t.f, setDirOptions(opt)); err != nil {
		return err
	}
	if err := syncDir(t.f); err != nil {
		return fmt.Errorf("sync %s: %w", t.path(), advise(err, t.path()))
	}
	return nil
}

// write needs no temporary file: nobody looks for the content here yet.
func (t *tempDir) write(name string, data []byte, opt Options) error {
	f, err := t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make it: %w", advise(err, t.path()))
	}
	defer f.Close()
	if err := setAttributes(f, opt); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("fill it: %w", advise(err, t.path()))
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync it: %w", advise(err, t.path()))
	}
	named, err := t.root.Lstat(name)
	return verify(f, named, err, data, opt)
}

func (t *tempDir) rename(name string) error {
	if err := t.in.Rename(t.name, name); err != nil {
		return err
	}
	t.name = name
	if !t.isAt(name) {
		return errReplaced
	}
	return nil
}

// discard unlocks the directory and, unless it is done, removes it.
func (t *tempDir) discard() {
	if !t.done {
		_ = t.remove()
	}
	t.close()
}

func (t *tempDir) close() {
	_ = t.f.Close()
	_ = t.root.Close()
}

// remove removes a directory of files. One with a directory in it is none that
// we made. What has its name by now may be something else: only the directory
// that is open is emptied.
func (t *tempDir) remove() error {
	list, err := openDirIn(t.root)
	if err != nil {
		return err
	}
	entries, err := list.ReadDir(-1)
	_ = list.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s holds %s, which is not ours: remove it", t.path(), e.Name())
		}
	}
	for _, e := range entries {
		if err := t.root.Remove(e.Name()); err != nil {
			return err
		}
	}
	if !t.isAt(t.name) {
		return nil
	}
	return t.in.Remove(t.name)
}
