// Package atomicfile replaces a file so that a reader sees the old content or
// the new, never half of one, with the right mode and owner from the start.
//
// A file is written beside its target under a hidden name, synced, renamed
// over it, and read back. Three things follow from that. Whoever may write a
// target must be able to write its directory. A reader that holds the old file
// open keeps reading the old content. And a target that is mounted by itself
// (a single file in a container) cannot be replaced: [Options.InPlace] writes
// into such a file, at the price that a reader may see a mixture.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Options say what a file is to be besides its content.
type Options struct {
	// Mode is the permission bits that the file has afterwards, whatever the
	// umask and whatever it had before.
	Mode fs.FileMode
	// UID and GID are its owner and group. -1 leaves what a new file gets, or
	// with InPlace what the file has, and is not verified.
	UID, GID int
	// InPlace overwrites a file that exists instead of replacing it. A reader
	// may see half of the old and half of the new content, and a crash may
	// leave that. The file must belong to us, root or UID, unless it is a mount
	// of its own: then whoever made the mount has said whose it is.
	InPlace bool
}

// Write makes path a regular file with this content, mode and owner, durably:
// when it returns nil, the file has been synced and read back. When it returns
// an error before the replacement, path is as it was (unless
// [Options.InPlace]), and nothing else is left behind. Leftovers of a Write
// that was killed are removed by the next one of the same path, unless somebody
// kept the usual names for them taken.
//
// What is at path must be a regular file with one link, or nothing. Concurrent
// Writes of one path, also by other processes, do not disturb each other: one
// of them is last. Errors wrap the system's, hold nothing of data, and say what
// to do. Write cannot be interrupted; on a disk that hangs it hangs.
func Write(path string, data []byte, opt Options) error {
	exists, err := checkTarget(path)
	switch {
	case err != nil:
	case opt.InPlace && exists:
		err = overwrite(path, data, opt)
	default:
		err = replace(path, data, opt)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func replace(path string, data []byte, opt Options) error {
	dir := filepath.Dir(path)
	// Opened before anything changes, so that the sync of the directory
	// cannot fail for a missing permission when it is too late.
	d, err := openDir(dir)
	if err != nil {
		return fmt.Errorf("open its directory: %w", advise(err, dir))
	}
	defer d.Close()
	t, err := newTemp(path)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := setAttributes(t.f, opt); err != nil {
		return err
	}
	if _, err := t.f.Write(data); err != nil {
		return fmt.Errorf("fill the temporary file: %w", advise(err, dir))
	}
	if err := t.f.Sync(); err != nil {
		return fmt.Errorf("sync the temporary file: %w", advise(err, dir))
	}
	if err := t.rename(path); err != nil {
		if errors.Is(err, syscall.EBUSY) {
			return errMountPoint
		}
		if st, serr := d.Stat(); serr == nil && errors.Is(err, fs.ErrPermission) {
			if serr := checkSticky(path, st); serr != nil {
				return fmt.Errorf("rename the temporary file: %w: %w", bare(err), serr)
			}
		}
		return fmt.Errorf("rename the temporary file: %w", advise(err, dir))
	}
	if err := syncDir(d); err != nil {
		return fmt.Errorf("sync its directory: %w", advise(err, dir))
	}
	return readBack(path, t.f, data, opt)
}

// errMountPoint is what rename(2) says EBUSY for.
var errMountPoint = fmt.Errorf("the file is a mount of its own and cannot be replaced (%w): "+
	"mount its directory instead, or set `write: in_place` (a reader may then see half a token)", syscall.EBUSY)

// overwrite writes first and shortens afterwards, so that the file is never
// empty.
func overwrite(path string, data []byte, opt Options) error {
	f, err := openNoFollow(path, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("open it: %w", adviseFile(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return bare(err)
	}
	if err := checkType(st); err != nil {
		return err
	}
	if err := checkOwner(path, st, opt); err != nil {
		return err
	}
	if err := setAttributes(f, opt); err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return fmt.Errorf("overwrite it: %w", advise(err, filepath.Dir(path)))
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		return fmt.Errorf("cut it to its new length: %w", bare(err))
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync it: %w", bare(err))
	}
	return readBack(path, f, data, opt)
}

// setAttributes gives the file away last: without CAP_FOWNER its mode can be
// changed only while it is ours, and its group must be right before the mode
// lets that group in.
func setAttributes(f *os.File, opt Options) error {
	st, err := f.Stat()
	if err != nil {
		return bare(err)
	}
	uid, gid := owner(st)
	if opt.GID >= 0 && opt.GID != gid {
		if err := f.Chown(-1, opt.GID); err != nil {
			return fmt.Errorf("give it to group %d: %w: run as a member of that group or as root, or choose another group", opt.GID, bare(err))
		}
	}
	if st.Mode().Perm() != opt.Mode.Perm() {
		if err := f.Chmod(opt.Mode.Perm()); err != nil {
			return fmt.Errorf("set its mode to %04o: %w: the file must be ours", opt.Mode.Perm(), bare(err))
		}
	}
	if opt.UID >= 0 && opt.UID != uid {
		if err := f.Chown(opt.UID, -1); err != nil {
			return fmt.Errorf("give it to user %d: %w: only root may give files away; leave out the owner and use a group", opt.UID, bare(err))
		}
	}
	return nil
}

// syncDir makes a rename durable. Some file systems know no sync of
// directories and say so with EINVAL.
func syncDir(d *os.File) error {
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// openDir opens a directory for its sync. Without O_NONBLOCK, which means
// nothing to directories and regular files, package os would set it, to find
// that they cannot be polled, and take it back: four calls of fcntl(2).
func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// openNoFollow opens what is at path itself and does not wait for the other
// end of a FIFO.
func openNoFollow(path string, flag int) (*os.File, error) {
	return os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}
