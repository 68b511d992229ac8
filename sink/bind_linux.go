package sink

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

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
