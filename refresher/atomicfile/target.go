package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Holds tells whether path is a regular file with exactly this content, mode
// and, where they are not -1, owner and group. The error says what differs, and
// nothing of the content. One that wraps [fs.ErrPermission] means that the
// content could not be looked at.
func Holds(path string, data []byte, opt Options) error {
	f, err := openNoFollow(path, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is gone: %w", path, fs.ErrNotExist)
	case err != nil:
		if _, terr := checkTarget(path); terr != nil {
			return fmt.Errorf("%s: %w", path, terr)
		}
		return fmt.Errorf("open %s: %w", path, bare(err))
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		err = checkType(st)
	}
	if err == nil {
		err = sameAttributes(st, opt)
	}
	if err == nil {
		err = sameContent(f, st, data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readBack verifies a write through the descriptor that wrote: a file that was
// given away need not be readable by its name.
func readBack(path string, f *os.File, data []byte, opt Options) error {
	named, err := os.Lstat(path)
	return verify(f, named, err, data, opt)
}

// verify is readBack of a file whose name leads to named, or to err.
func verify(f *os.File, named fs.FileInfo, err error, data []byte, opt Options) error {
	st, staterr := f.Stat()
	if staterr != nil {
		return bare(staterr)
	}
	if err != nil || !os.SameFile(named, st) {
		return errReplaced
	}
	if err := sameAttributes(st, opt); err != nil {
		return fmt.Errorf("read it back: %w: the file system does not keep modes or owners, choose another", err)
	}
	if err := sameContent(f, st, data); err != nil {
		return fmt.Errorf("read it back: %w: somebody else writes it, or the disk is faulty", err)
	}
	return nil
}

func sameAttributes(st fs.FileInfo, opt Options) error {
	uid, gid := owner(st)
	switch {
	case st.Mode().Perm() != opt.Mode.Perm():
		return fmt.Errorf("its mode is %04o and not %04o", st.Mode().Perm(), opt.Mode.Perm())
	case opt.UID >= 0 && uid != opt.UID:
		return fmt.Errorf("its owner is %d and not %d", uid, opt.UID)
	case opt.GID >= 0 && gid != opt.GID:
		return fmt.Errorf("its group is %d and not %d", gid, opt.GID)
	}
	return nil
}

func sameContent(f *os.File, st fs.FileInfo, data []byte) error {
	if st.Size() != int64(len(data)) {
		return fmt.Errorf("it holds something else (%d bytes instead of %d)", st.Size(), len(data))
	}
	got := make([]byte, len(data))
	if n, err := f.ReadAt(got, 0); n != len(data) {
		return fmt.Errorf("read it: %w", bare(err))
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("it holds something else (of the same %d bytes)", len(data))
	}
	return nil
}

// checkTarget tells whether there is a file at path, and refuses what must not
// be replaced or written into.
func checkTarget(path string) (exists bool, err error) {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, adviseFile(err)
	}
	return true, checkType(st)
}

func checkType(st fs.FileInfo) error {
	switch m := st.Mode(); {
	case m.IsDir():
		return errors.New("it is a directory: name a file in it, or remove it")
	case m&fs.ModeSymlink != 0:
		return errors.New("it is a symbolic link: name the file that it points to, or remove it")
	case m&fs.ModeNamedPipe != 0:
		return errors.New("it is a FIFO: remove it or name another file")
	case m&fs.ModeSocket != 0:
		return errors.New("it is a socket: remove it or name another file")
	case m&fs.ModeDevice != 0:
		return errors.New("it is a device: name a regular file")
	case !m.IsRegular():
		return errors.New("it is not a regular file: remove it or name another file")
	}
	if n := links(st); n > 1 {
		return fmt.Errorf("it has %d hard links, and the others would keep an old content: remove it, or name a file of its own", n)
	}
	return nil
}

// owner returns -1, -1 where the system does not say.
func owner(st fs.FileInfo) (uid, gid int) {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return -1, -1
}

func links(st fs.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink) // its type differs between systems
	}
	return 1
}
