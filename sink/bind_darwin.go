package sink

import (
	"net"

	"golang.org/x/sys/unix"
)

// listenPrivately makes a socket that only we can connect to. The umask is the
// whole process's: a file that another goroutine creates in this moment is
// more private than it would be.
func listenPrivately(path string) (*net.UnixListener, error) {
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return listenUnix(path, nil)
}
