package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"iam-token-refresher/sink/peer"
)

// bound is a listening Unix socket that we made, and its file.
type bound struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// bind makes a socket that nobody can connect to before it has its final mode
// and owner. A leftover of a process that is gone is replaced; a socket that
// somebody listens on is not.
func bind(path string, mode FileMode, uid, gid int) (*bound, error) {
	unlock := lockDir(filepath.Dir(path))
	defer unlock()
	if err := clearLeftover(path, true); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := listenPrivately(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, adviseBind(err, path))
	}
	l.SetUnlinkOnClose(false)
	b := &bound{UnixListener: l, path: path}
	if err = b.identify(); err == nil {
		err = b.change(mode, uid, gid)
	}
	if err != nil {
		b.remove()
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return b, nil
}

// errReplaced says that whoever may write the socket's directory was there.
var errReplaced = errors.New("somebody put something else in the place of the socket: it is left alone; choose a directory that only we may write")

// identify notes which file is ours. Who may write the directory may put
// something else there at any time: a link, or another socket of ours.
func (b *bound) identify() error {
	f, err := openSocketFile(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return errReplaced
	}
	if st.Mode().Perm()&0o200 == 0 { // the umask took the right to connect
		if err := f.chmod(0o600); err != nil {
			return fmt.Errorf("set its mode: %w", err)
		}
	}
	if err := f.leadsTo(b.path); err != nil {
		return err
	}
	b.file = st
	return nil
}

// change gives the socket its mode and owner; of -1 nothing changes. It is done
// to the file that was identified, or not at all.
func (b *bound) change(mode FileMode, uid, gid int) error {
	f, err := openSocketFile(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if !os.SameFile(st, b.file) {
		return errReplaced
	}
	if uid >= 0 || gid >= 0 {
		if err := f.chown(uid, gid); err != nil {
			return adviseOwner(err)
		}
	}
	if err := f.chmod(mode); err != nil {
		return fmt.Errorf("set its mode: %w", err)
	}
	return nil
}

// remove takes the socket's file away if it is still ours.
func (b *bound) remove() {
	if b.inPlace() {
		_ = os.Remove(b.path)
	}
}

// inPlace tells whether the file is still the one that was identified.
func (b *bound) inPlace() bool {
	now, err := os.Lstat(b.path)
	return err == nil && b.file != nil && os.SameFile(now, b.file)
}

// lost tells whether it is known that the file is no longer the one that was
// identified: in a directory that was closed to us it may still be.
func (b *bound) lost() bool {
	now, err := os.Lstat(b.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, b.file)
}

// clearLeftover returns nil when path is free, or was, or with remove has been
// made so.
func clearLeftover(path string, remove bool) error {
	if err := checkSocketPath(path); err != nil {
		return err
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode()&fs.ModeSocket == 0:
		return errors.New("something that is not a socket is there: remove it or choose another path")
	}
	c, err := (&net.Dialer{Timeout: 2 * time.Second}).Dial("unix", path)
	switch {
	case err == nil:
		defer c.Close()
		return holder(c)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("a socket is there, and it cannot be told whether somebody listens (%w): remove it or choose another path", err)
	case remove:
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a leftover: %w", err)
		}
	}
	return nil
}

// InUseError says that somebody listens where a listener is to be.
type InUseError struct {
	By  string // for people: "process 7 (name, uid 0)"
	own bool   // it is a listener of ours
}

func (e *InUseError) Error() string {
	if e.own {
		return e.By + " listens there already, for something else: give each listener a place of its own; where a reload moves a place from one to another, restart the daemon"
	}
	return e.By + " listens there already: stop it or choose another place"
}

// inUseByUs is what is said where the listener is one of ours.
func inUseByUs() *InUseError { return &InUseError{By: "this daemon itself", own: true} }

// holder names who listens at the other end of c.
func holder(c net.Conn) *InUseError {
	p, err := peer.Of(c)
	switch {
	case err != nil || p.PID == 0:
		return &InUseError{By: "another process"}
	case p.PID == os.Getpid():
		return inUseByUs()
	}
	if name := peer.Command(p.PID); name != "" {
		return &InUseError{By: fmt.Sprintf("process %d (%s, uid %d)", p.PID, name, p.UID)}
	}
	return &InUseError{By: fmt.Sprintf("process %d (uid %d)", p.PID, p.UID)}
}

// lockDir keeps two daemons that start at once from taking each other's new
// socket for a leftover. A lock that somebody else holds for long is ignored:
// everybody who can read a directory can lock it.
func lockDir(dir string) (unlock func()) {
	d, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for range 20 {
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	return func() { d.Close() }
}

func adviseBind(err error, path string) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: create the directory %s", err, dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: let uid %d write the directory %s", err, os.Geteuid(), dir)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: choose a directory that is not read-only", err)
	}
	return err
}

func adviseOwner(err error) error {
	return fmt.Errorf("give it to its owner and group: %w: only root may give it to a user, and only a member to a group", err)
}

// tryOwner tells whether a file in the socket's directory can be given to these:
// the socket itself must not change for a trial. It leaves nothing behind.
func tryOwner(path string, uid, gid int) error {
	if uid < 0 && gid < 0 {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".owner-")
	if err != nil {
		return adviseBind(err, path)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := unix.Fchown(int(f.Fd()), uid, gid); err != nil {
		return adviseOwner(err)
	}
	return nil
}

// checkBind tells whether bind would work, and changes nothing.
func checkBind(path string, uid, gid int) error {
	if err := tryBind(path, uid, gid); err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	return nil
}

func tryBind(path string, uid, gid int) error {
	inUse := clearLeftover(path, false)
	if inUse != nil && !errors.As(inUse, new(*InUseError)) {
		return inUse
	}
	if err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return cmp.Or(inUse, adviseBind(err, path))
	}
	// Who listens may be the daemon that will have this owner after a restart.
	if err := tryOwner(path, uid, gid); err != nil {
		return err
	}
	return inUse
}

func listenUnix(path string, control func(network, address string, c syscall.RawConn) error) (*net.UnixListener, error) {
	l, err := (&net.ListenConfig{Control: control}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return l.(*net.UnixListener), nil
}
