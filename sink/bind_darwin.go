package sink

import (
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is sun_path of unix(4) less its final zero.
const maxSocketPath = 103

// ownDescriptors is the directory of this process's open descriptors.
const ownDescriptors = "/dev/fd"

// listenPrivately makes a socket that only we can connect to. The umask is the
// whole process's: a file that another goroutine creates in this moment is
// more private than it would be.
func listenPrivately(path string) (*net.UnixListener, error) {
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return listenUnix(path, nil)
}

// socketFile is a path: there is no descriptor of a socket's file here, and
// what is done to it follows no links.
type socketFile struct{ path string }

func openSocketFile(path string) (*socketFile, error) { return &socketFile{path}, nil }

func (f *socketFile) Stat() (fs.FileInfo, error) { return os.Lstat(f.path) }

func (f *socketFile) Close() {}

// leadsTo returns nil when the socket is one of ours.
func (f *socketFile) leadsTo(string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if s, ok := st.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return errReplaced
	}
	return nil
}

func (f *socketFile) chmod(mode FileMode) error {
	return unix.Fchmodat(unix.AT_FDCWD, f.path, uint32(mode), unix.AT_SYMLINK_NOFOLLOW)
}

func (f *socketFile) chown(uid, gid int) error { return unix.Lchown(f.path, uid, gid) }
