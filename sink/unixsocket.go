package sink

import (
	"fmt"
	"net"
	"os"
	"sync"
)

// unixSocket is the file of a listener: its path, who may connect, and the
// socket once it is bound.
type unixSocket struct {
	path      string
	inherited net.Listener

	// attributes guards what follows.
	attributes sync.Mutex
	mode       FileMode
	uid, gid   int
	bound      *bound
}

// newUnixSocket makes one that is not bound yet; inherited is a socket that
// somebody else bound, or nil. An unknown user or group is a
// [*refresher.Invalid].
func newUnixSocket(o SocketOptions, inherited net.Listener, accounts *Accounts) (*unixSocket, error) {
	uid, gid, err := socketOwner(o, accounts)
	if err != nil {
		return nil, err
	}
	return &unixSocket{path: o.Path, inherited: inherited, mode: o.Mode.or(0o600), uid: uid, gid: gid}, nil
}

func socketOwner(o SocketOptions, accounts *Accounts) (uid, gid int, err error) {
	uid, err = accounts.UID("owner", o.Owner)
	if err == nil {
		gid, err = accounts.GID("group", o.Group)
	}
	return uid, gid, err
}

// Path is the socket's path.
func (u *unixSocket) Path() string { return u.path }

// SetSocket changes mode and owner of the socket to those of o, at once. A
// socket that was inherited is left alone.
func (u *unixSocket) SetSocket(o SocketOptions, accounts *Accounts) error {
	uid, gid, err := socketOwner(o, accounts)
	if err != nil {
		return err
	}
	u.attributes.Lock()
	defer u.attributes.Unlock()
	mode := o.Mode.or(0o600)
	if u.mode == mode && u.uid == uid && u.gid == gid {
		return nil
	}
	if u.bound != nil {
		// What is left out is ours again, and not what it was before.
		wantUID, wantGID := uid, gid
		if wantUID < 0 && u.uid >= 0 {
			wantUID = os.Geteuid()
		}
		if wantGID < 0 && u.gid >= 0 {
			wantGID = os.Getegid()
		}
		if err := u.bound.change(mode, wantUID, wantGID); err != nil {
			return fmt.Errorf("change %s: %w", u.path, err)
		}
	}
	u.mode, u.uid, u.gid = mode, uid, gid
	return nil
}

// listen binds the socket, or takes the one that was inherited.
func (u *unixSocket) listen() (net.Listener, error) {
	u.attributes.Lock()
	defer u.attributes.Unlock()
	if u.inherited != nil {
		if l, ok := u.inherited.(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false)
		}
		return u.inherited, nil
	}
	b, err := bind(u.path, u.mode, u.uid, u.gid)
	if err != nil {
		return nil, err
	}
	u.bound = b
	return b.UnixListener, nil
}

// check tells whether listen would work.
func (u *unixSocket) check() error {
	if u.inherited != nil {
		return nil
	}
	return checkBind(u.path)
}

// remove takes the file away if it is still the one that listen made.
func (u *unixSocket) remove() {
	u.attributes.Lock()
	b := u.bound
	u.bound = nil
	u.attributes.Unlock()
	if b != nil {
		b.remove()
	}
}
