package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A set is a directory of files that change together, in the way of the
// volumes of Kubernetes:
//
//	token      -> ..data/token
//	expires_at -> ..data/expires_at
//	..data     -> ..set-20261123T171049.123456789
//	..set-20261123T171049.123456789/
//
// Each content is a directory of its own, and one rename of ..data makes it
// the current one. A reader that needs files that match resolves ..data once
// and reads all of them below that; each file by itself is whole by any path.
// The directory before the current one is kept for who is reading it.
const (
	setLink   = "..data"
	setNew    = "..new"  // is being filled
	setPrefix = "..set-" // and the time: was filled; with .link: is to be a link
	setTime   = "20060102T150405.000000000"
)

// WriteSet makes dir a set that holds these files, by name, durably: when it
// returns nil, everything has been synced and read back. A crash at any point
// leaves the content from before or the new one; its leftovers are removed by
// the next WriteSet. opt says what the files are; who may read them may pass
// the directories in it. [Options.InPlace] means nothing here.
//
// dir is made if it is not there, with permissions that follow from those of
// the files; one that is there keeps its own. In it WriteSet touches nothing
// that is not its own: something else under the name of a file or ..data is an
// error. Concurrent writes do not disturb each other, as with [Write].
func WriteSet(dir string, files map[string][]byte, opt Options) error {
	opt.InPlace = false
	if err := writeSet(dir, files, opt); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	return nil
}

func writeSet(dir string, files map[string][]byte, opt Options) error {
	if barred(dir) {
		if err := makeSetDir(dir, opt); err != nil {
			return err
		}
	}
	exists, err := checkSet(dir, files)
	if err == nil && !exists {
		err = makeSetDir(dir, opt)
	}
	if err != nil {
		return err
	}
	root, err := openRoot(dir)
	if err != nil {
		return fmt.Errorf("open it: %w", advise(err, dir))
	}
	defer root.Close()
	d, err := openDirIn(root)
	if err != nil {
		return fmt.Errorf("open it: %w", advise(err, dir))
	}
	defer d.Close()
	fresh, err := claimDir(root, setNew)
	if err != nil {
		return fmt.Errorf("make a directory in it: %w", advise(err, dir))
	}
	defer fresh.discard()
	if err := fresh.fill(files, opt); err != nil {
		return err
	}
	stamped := setPrefix + time.Now().UTC().Format(setTime)
	if err := fresh.rename(stamped); err != nil {
		return fmt.Errorf("rename the new directory: %w", advise(err, dir))
	}
	if err := syncDir(d); err != nil {
		return fmt.Errorf("sync it: %w", advise(err, dir))
	}
	// The names first: on the first write they all begin to exist with ..data.
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := linkTo(root, name, filepath.Join(setLink, name), stamped); err != nil {
			return err
		}
	}
	before, _ := root.Readlink(setLink)
	if err := linkTo(root, setLink, stamped, stamped); err != nil {
		return err
	}
	fresh.done = true
	if err := syncDir(d); err != nil {
		return fmt.Errorf("sync it: %w", advise(err, dir))
	}
	if now, err := root.Readlink(setLink); err != nil || now != stamped {
		return errReplaced
	}
	cleanSet(root, stamped, before)
	return nil
}

// HoldsSet tells whether dir is a set that holds exactly these files, with this
// mode and, where they are not -1, owner and group. The error is as that of
// [Holds].
func HoldsSet(dir string, files map[string][]byte, opt Options) error {
	if _, err := checkSet(dir, files); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	current, err := os.Readlink(filepath.Join(dir, setLink))
	if err != nil {
		return fmt.Errorf("%s has no content: %w", dir, bare(err))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if to, err := os.Readlink(path); err != nil || to != filepath.Join(setLink, name) {
			return fmt.Errorf("%s is not the link that belongs there", path)
		}
		if err := Holds(filepath.Join(dir, current, name), files[name], opt); err != nil {
			return err
		}
	}
	st, err := os.Lstat(filepath.Join(dir, current))
	if err == nil {
		err = sameAttributes(st, setDirOptions(opt))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, current), bare(err))
	}
	return nil
}

// CheckSet tells whether [WriteSet] of dir would work now, as far as can be
// known without doing it. It makes a temporary directory and removes it again.
func CheckSet(dir string, files map[string][]byte, opt Options) error {
	if barred(dir) { // until it is written
		return nil
	}
	exists, err := checkSet(dir, files)
	if err == nil {
		err = tryDir(dir, exists, opt)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", dir, err)
	}
	return nil
}

// tryDir makes a directory where the set would: in it or, to make the set
// itself, beside it.
func tryDir(dir string, exists bool, opt Options) error {
	where, name, open := dir, setNew, openRoot
	if !exists {
		where, name, open = filepath.Dir(dir), "."+filepath.Base(dir)+".itr-tmp", os.OpenRoot
	}
	root, err := open(where)
	if err != nil {
		return fmt.Errorf("make a directory in %s: %w", where, advise(err, where))
	}
	defer root.Close()
	t, err := claimDir(root, name)
	if err != nil {
		return fmt.Errorf("make a directory in %s: %w", where, advise(err, where))
	}
	defer t.discard()
	return setAttributes(t.f, setDirOptions(opt))
}

// checkSet refuses what is not ours. Once ..data is, the names of the files are
// ours as well, whatever somebody has put there.
func checkSet(dir string, files map[string][]byte) (exists bool, err error) {
	st, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, adviseFile(err)
	case st.Mode()&fs.ModeSymlink != 0:
		return false, errors.New("it is a symbolic link: name the directory that it points to, or remove it")
	case !st.IsDir():
		return false, errors.New("it is not a directory: remove it or name another")
	}
	to, err := os.Readlink(filepath.Join(dir, setLink))
	switch {
	case err == nil && strings.HasPrefix(to, setPrefix):
		return true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return true, fmt.Errorf("its %s is not ours: name a directory of its own, or remove what is there", setLink)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if to, err := os.Readlink(path); err != nil || to != filepath.Join(setLink, name) {
			return true, fmt.Errorf("its %s is not ours: name a directory of its own, or remove what is there", name)
		}
	}
	return true, nil
}

// makeSetDir makes the set's own directory, durably. Only one that is empty, and
// so is none that somebody put in its place, gets its attributes.
func makeSetDir(dir string, opt Options) error {
	parent := filepath.Dir(dir)
	in, err := os.OpenRoot(parent)
	if err != nil {
		return fmt.Errorf("open its directory: %w", advise(err, parent))
	}
	defer in.Close()
	p, err := openDirIn(in)
	if err != nil {
		return fmt.Errorf("open its directory: %w", advise(err, parent))
	}
	defer p.Close()
	name := filepath.Base(dir)
	if err := in.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make it: %w", advise(err, parent))
	}
	root, f, err := openBarred(in, name)
	if err != nil {
		return fmt.Errorf("open it: %w", advise(err, dir))
	}
	defer root.Close()
	defer f.Close()
	if _, err := f.ReadDir(1); errors.Is(err, io.EOF) {
		if err := setAttributes(f, setDirOptions(opt)); err != nil {
			return err
		}
	}
	if err := syncDir(p); err != nil {
		return fmt.Errorf("sync its directory: %w", advise(err, parent))
	}
	return nil
}

// barred tells whether dir is what makeSetDir leaves when it is killed under a
// umask that takes our own rights.
func barred(dir string) bool {
	st, err := os.Lstat(dir)
	if err != nil || !st.IsDir() || st.Mode().Perm()&0o077 != 0 {
		return false
	}
	uid, _ := owner(st)
	return uid == os.Geteuid() && unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS) == unix.EACCES
}

// setDirOptions let pass who may read the files. The directories stay ours: we
// must be able to remove them.
func setDirOptions(opt Options) Options {
	read := opt.Mode & 0o444
	mode := 0o700 | read | read>>2
	if opt.UID >= 0 && opt.UID != os.Geteuid() {
		mode |= 0o005
	}
	return Options{Mode: mode, UID: -1, GID: opt.GID}
}

// linkTo makes the symbolic link name in root point to a path, at once. The
// writer's own stamp keeps others from taking its temporary link.
func linkTo(root *os.Root, name, to, stamped string) error {
	temp := stamped + ".link"
	if now, err := root.Readlink(name); err == nil && now == to {
		return nil
	}
	err := root.Symlink(to, temp)
	if err == nil {
		if err = root.Rename(temp, name); err != nil {
			_ = root.Remove(temp)
		}
	}
	if err != nil {
		return fmt.Errorf("make the link %s: %w", filepath.Join(root.Name(), name), advise(err, root.Name()))
	}
	return nil
}

// cleanSet removes what is of no use any more: all but the content that is
// current now and, for who is reading it, the one before.
func cleanSet(root *os.Root, current, before string) {
	list, err := openDirIn(root)
	if err != nil {
		return // the next write looks again
	}
	entries, _ := list.ReadDir(-1)
	_ = list.Close()
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, setPrefix) || name == current || name == before {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 {
			_ = root.Remove(name)
			continue
		}
		if old, err := openTempDir(root, name); err == nil {
			// Who fills or publishes it holds its lock, and what was published
			// meanwhile is current.
			if lock(old.f) != locked {
				if now, err := root.Readlink(setLink); err == nil && now != name {
					_ = old.remove()
				}
			}
			old.close()
		}
	}
}
