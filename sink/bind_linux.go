package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"iam-token-refresher/sink/peer"
)

// maxSocketPath is sun_path of unix(7) less its final zero.
const maxSocketPath = 107

// ownDescriptors is the directory of this process's open descriptors.
const ownDescriptors = "/proc/self/fd"

// listenPrivately makes a socket that only we can connect to: on Linux the
// file gets the mode that the socket's descriptor has at the time of bind(2),
// less the umask.
func listenPrivately(path string) (*net.UnixListener, error) {
	return listenUnix(path, func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	})
}

// socketFile is what was at a path when it was opened, whatever is there now.
type socketFile struct{ *os.File }

func openSocketFile(path string) (*socketFile, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &socketFile{os.NewFile(uintptr(fd), path)}, nil
}

// name is another path of the file, for calls that take no descriptor; see
// proc_pid_fd(5).
func (f *socketFile) name() string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// leadsTo returns nil when it is our listener of that path that answers here.
func (f *socketFile) leadsTo(path string) error {
	c, err := net.Dial("unix", f.name())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("tell whether the socket is ours: there is no /proc: mount it")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errReplaced
	case err != nil:
		return fmt.Errorf("tell whether the socket is ours: %w", err)
	}
	defer c.Close()
	if p, err := peer.Of(c); err != nil || p.PID != os.Getpid() || c.RemoteAddr().String() != path {
		return errReplaced
	}
	return nil
}

func (f *socketFile) chmod(mode FileMode) error { return unix.Chmod(f.name(), uint32(mode)) }

func (f *socketFile) chown(uid, gid int) error {
	return unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH)
}
