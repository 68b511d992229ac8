package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// lockName is the file whose flock(2) says that a process has the directory. It
// stays: removing it would let two processes hold two locks of one name.
const lockName = "lock"

// LockedError says that another process has the state directory.
type LockedError struct {
	Dir string
	// PID is that process, in its own PID namespace; 0 when it is not known.
	PID int
	// Since is when it took the directory; zero when that is not known.
	Since time.Time
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	since := ""
	if !e.Since.IsZero() {
		since = ", since " + e.Since.Local().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s is in use by %s%s: two daemons cannot share a state; stop that one, or give this one a state_dir of its own", e.Dir, who, since)
}

// makeDir sees to it that dir is a directory of ours that nobody else may enter.
func makeDir(dir string, log *slog.Logger) error {
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(dir); err != nil {
			return err
		}
		st, err = os.Stat(dir)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, bare(err))
	}
	if err := ours(dir, st); err != nil {
		return err
	}
	if barred(dir, 0o700) {
		if err := os.Chmod(dir, 0o700); err != nil && !errors.Is(err, syscall.EROFS) {
			return fmt.Errorf("set the mode of %s to 0700: %w", dir, bare(err))
		}
		return nil
	}
	if st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := closeToOthers(dir); err != nil {
		if refused := new(sharedError); errors.As(err, &refused) {
			return refused
		}
		return fmt.Errorf("%s may be entered by others (mode %04o), and closing it failed: %w", dir, st.Mode().Perm(), bare(err))
	}
	log.Warn("the state directory could be entered by others, its mode is now 0700 (with systemd: StateDirectoryMode=0700)",
		"dir", dir, "mode", fmt.Sprintf("%04o", st.Mode().Perm()))
	return nil
}

// closeToOthers follows a link only where root or we made it: another user's
// may lead to any directory of ours.
func closeToOthers(dir string) error {
	flags := os.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW
	named, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if named.Mode().Type() == fs.ModeSymlink {
		if uid := owner(named); uid != 0 && uid != os.Geteuid() {
			return fmt.Errorf("it is a link that user %d made: name the directory itself", uid)
		}
		flags &^= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(dir, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		err = ours(dir, st)
	}
	if err == nil {
		err = notShared(dir, f, st)
	}
	if err != nil {
		return err
	}
	return f.Chmod(0o700)
}

// ours returns nil when dir is a directory that belongs to us.
func ours(dir string, st fs.FileInfo) error {
	uid := owner(st)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a directory: name another state_dir, or remove it", dir)
	case uid != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, and we run as user %d: give it to us (chown), or name a directory in it that we may make (state_dir: %s)",
			dir, uid, os.Geteuid(), filepath.Join(dir, "state"))
	}
	return nil
}

// barred tells whether what is at path is ours, is not for others, and lacks a
// right that we made it with: the umask took it, and we ended before we could
// give it back.
func barred(path string, rights fs.FileMode) bool {
	st, err := os.Lstat(path)
	return err == nil && (st.Mode().IsRegular() || st.IsDir()) && owner(st) == os.Geteuid() &&
		st.Mode().Perm()&0o077 == 0 && st.Mode().Perm()&rights != rights
}

func create(dir string) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return adviseCreate(dir, err)
	}
	// The umask may have taken our own rights. What is there by now may be a link.
	if st, err := os.Lstat(dir); err == nil && st.IsDir() && st.Mode().Perm() != 0o700 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("set the mode of %s to 0700: %w", dir, bare(err))
		}
	}
	// For the power cut right after the first state. Without it that state is
	// lost, nothing worse.
	if p, err := os.Open(parent); err == nil {
		_ = p.Sync()
		_ = p.Close()
	}
	return nil
}

func adviseCreate(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist, nor does %s, in which it would be made: make that first (with systemd: StateDirectory= or RuntimeDirectory=)", dir, filepath.Dir(dir))
	}
	return fmt.Errorf("make %s: %w: make it by hand, mode 0700, and give it to user %d", dir, bare(err), os.Geteuid())
}

// lockDir locks dir, until the file that it returns is closed, and says there
// who has it.
func lockDir(dir string, log *slog.Logger) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	readOnly := false
	const flags = os.O_RDWR | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrPermission) && barred(path, 0o600) && os.Chmod(path, 0o600) == nil {
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if errors.Is(err, syscall.EROFS) {
		readOnly = true
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w: we must be able to write the directory", dir, bare(err))
	}
	switch err := flock(f, syscall.LOCK_EX); {
	case err == nil:
	case errors.Is(err, syscall.EWOULDBLOCK):
		defer f.Close()
		return nil, holder(dir, f)
	default:
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w: the file system must support locks, a local one does", dir, err)
	}
	if !holdsLock(dir, f) {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: somebody replaced %s in the same moment: try again", dir, lockName)
	}
	if readOnly {
		log.Warn("the state directory is on a file system that is read-only: the state can be loaded, but a restart will not know what is published from now on", "dir", dir)
		return f, nil
	}
	if barred(path, 0o600) { // else the next start could not open it
		_ = f.Chmod(0o600)
	}
	if err := sign(f); err != nil {
		// Only a message would miss it; a full disk must not keep us from
		// loading what is there.
		log.Warn("the lock of the state directory cannot be written", "dir", dir, "error", bare(err))
	}
	return f, nil
}

// flock locks or unlocks, as how says, and does not wait.
func flock(f *os.File, how int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if lockErr = syscall.Flock(int(fd), how|syscall.LOCK_NB); lockErr != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, lockErr)
}

func sign(f *os.File) error {
	who := fmt.Appendf(nil, "%d %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	_, err := f.WriteAt(who, 0)
	return errors.Join(err, f.Truncate(int64(len(who))))
}

// holder reads what sign wrote.
func holder(dir string, f *os.File) *LockedError {
	e := &LockedError{Dir: dir}
	who, _ := io.ReadAll(io.LimitReader(f, 100))
	if fields := bytes.Fields(who); len(fields) == 2 {
		e.PID, _ = strconv.Atoi(string(fields[0]))
		e.Since, _ = time.Parse(time.RFC3339, string(fields[1]))
	}
	return e
}

// holdsLock tells whether f is still what others would lock.
func holdsLock(dir string, f *os.File) bool {
	named, err := os.Lstat(filepath.Join(dir, lockName))
	if err != nil {
		return false
	}
	held, err := f.Stat()
	return err == nil && os.SameFile(named, held)
}

func owner(st fs.FileInfo) int {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// bare is the system's word without the path, which the message has.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
