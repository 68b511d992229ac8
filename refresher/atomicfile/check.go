package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Check tells whether [Write] of path would work now, as far as can be known
// without doing it. It makes a temporary file and removes it again, and leaves
// nothing.
func Check(path string, opt Options) error {
	if err := check(path, opt); err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return nil
}

func check(path string, opt Options) error {
	dir := filepath.Dir(path)
	d, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("look at its directory: %w", advise(err, dir))
	case !d.IsDir():
		return fmt.Errorf("%s is not a directory: name a path in one", dir)
	}
	exists, err := checkTarget(path)
	if err != nil {
		return err
	}
	if opt.InPlace && exists {
		return checkOverwrite(path, opt)
	}
	if exists {
		if isMountPoint(path) {
			return errMountPoint
		}
		if err := checkSticky(path, d); err != nil {
			return err
		}
	}
	f, err := openDir(dir)
	if err != nil {
		return fmt.Errorf("open its directory: %w", advise(err, dir))
	}
	defer f.Close()
	t, err := newTemp(path)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := setAttributes(t.f, opt); err != nil {
		return err
	}
	// On a full disk an empty file can still be made.
	if _, err := t.f.Write(make([]byte, 4096)); err != nil {
		return fmt.Errorf("fill the temporary file: %w", advise(err, dir))
	}
	return nil
}

func checkOverwrite(path string, opt Options) error {
	f, err := openNoFollow(path, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("open it: %w", adviseFile(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return bare(err)
	}
	if err := checkOwner(path, st, opt); err != nil {
		return err
	}
	if err := sameAttributes(st, opt); err != nil {
		if uid, _ := owner(st); os.Geteuid() != 0 && os.Geteuid() != uid {
			return fmt.Errorf("%w, and it is not ours to change: change it by hand", err)
		}
	}
	return nil
}

// checkOwner refuses to write into the file of somebody else, who would read
// what is written. To give it to another user first would not do: who has it
// open already goes on reading it.
func checkOwner(path string, st fs.FileInfo, opt Options) error {
	uid, _ := owner(st)
	if uid <= 0 || uid == os.Geteuid() || uid == opt.UID || isMountPoint(path) {
		return nil
	}
	return fmt.Errorf("it belongs to user %d, who would read what is written into it: remove it, or set `owner: \"%[1]d\"` if that user is meant to", uid)
}

// checkSticky finds the file of somebody else in a directory such as /tmp.
func checkSticky(path string, dir fs.FileInfo) error {
	st, err := os.Lstat(path)
	if err != nil || dir.Mode()&fs.ModeSticky == 0 || os.Geteuid() == 0 {
		return nil
	}
	uid, _ := owner(st)
	if dirUID, _ := owner(dir); uid != os.Geteuid() && dirUID != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d and its directory is sticky: remove it, or choose a directory of our own", uid)
	}
	return nil
}
