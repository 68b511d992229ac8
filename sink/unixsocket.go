package sink

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"iam-token-refresher/sink/peer"
)

// unixSocket is the file of a listener: its path, who may connect, and the
// socket once it is bound.
type unixSocket struct {
	path      string
	inherited net.Listener

	// mu guards what follows.
	mu         sync.Mutex
	attributes attributes
	bound      *bound
	// unlike: the file could not be given what was last wanted of it.
	unlike bool
}

// newUnixSocket makes one that is not bound yet; inherited is a socket that
// somebody else bound, or nil. An unknown user or group is a
// [*refresher.Invalid].
func newUnixSocket(o SocketOptions, inherited net.Listener, accounts *Accounts) (*unixSocket, error) {
	a, err := attributesOf(o, accounts)
	if err != nil {
		return nil, err
	}
	return &unixSocket{path: o.Path, inherited: inherited, attributes: a}, nil
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

// attributes of a socket; -1 is nobody in particular.
type attributes struct {
	mode     FileMode
	uid, gid int
}

func attributesOf(o SocketOptions, accounts *Accounts) (attributes, error) {
	uid, gid, err := socketOwner(o, accounts)
	return attributes{o.Mode.or(0o600), uid, gid}, err
}

// become is what the socket's file is to be given: what is left out is ours
// again, and not what it was before.
func (a attributes) become(next attributes) attributes {
	if next.uid < 0 && a.uid >= 0 {
		next.uid = os.Geteuid()
	}
	if next.gid < 0 && a.gid >= 0 {
		next.gid = os.Getegid()
	}
	return next
}

// admits tells whether p could connect, as the kernel decides it: of owner, group
// and others the first that p is one of counts.
func (a attributes) admits(p *peer.Peer) bool {
	switch {
	case p.Admin():
		return true
	case a.uid >= 0 && p.Is(uint32(a.uid)):
		return a.mode&0o200 != 0
	case a.gid >= 0 && p.In([]uint32{uint32(a.gid)}):
		return a.mode&0o020 != 0
	}
	return a.mode&0o002 != 0
}

// TrySocket tells whether setSocket would work, and changes nothing.
func (u *unixSocket) TrySocket(o SocketOptions, accounts *Accounts) error {
	next, err := attributesOf(o, accounts)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bound == nil || u.attributes == next {
		return nil
	}
	if !u.bound.inPlace() {
		err = errReplaced
	} else {
		to := u.attributes.become(next)
		err = tryOwner(u.path, to.uid, to.gid)
	}
	if err != nil {
		return fmt.Errorf("change mode and owner of socket %s: %w", u.path, err)
	}
	return nil
}

// setSocket changes mode and owner of the socket to those of o, at once. The
// kernel asks for them only at the connect: who connected before, and could no
// longer, is disconnected. A socket that was inherited is left alone.
func (u *unixSocket) setSocket(h *hub, o SocketOptions, accounts *Accounts) error {
	next, err := attributesOf(o, accounts)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.attributes == next && !u.unlike {
		return nil
	}
	if u.bound != nil {
		to := u.attributes.become(next)
		settled := h.server.Screen(u.resolve(to).admits)
		// As long as the file lets in more than it should, we do not.
		if err := u.bound.change(to.mode, to.uid, to.gid); err != nil {
			u.unlike = true
			return fmt.Errorf("change mode and owner of socket %s: %w", u.path, err)
		}
		settled()
	}
	u.attributes, u.unlike = next, false
	return nil
}

// resolve puts what the file has in the place of what is not to change.
func (u *unixSocket) resolve(a attributes) attributes {
	st, err := os.Lstat(u.path)
	if err != nil {
		return a
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); ok {
		if a.uid < 0 {
			a.uid = int(owner.Uid)
		}
		if a.gid < 0 {
			a.gid = int(owner.Gid)
		}
	}
	return a
}

// lost tells whether the file that was bound is gone, or another is there.
func (u *unixSocket) lost() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bound != nil && u.bound.lost()
}

// listenAgain binds the socket again where its file was lost; nil where not.
func (u *unixSocket) listenAgain() (net.Listener, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bound == nil || !u.bound.lost() {
		return nil, nil
	}
	b, err := bind(u.path, u.attributes.mode, u.attributes.uid, u.attributes.gid)
	if err != nil {
		return nil, err
	}
	u.bound = b
	return b.UnixListener, nil
}

// keep puts the file of a listening socket back that somebody took away, as is
// done with files.
func (u *unixSocket) keep(h *hub) error {
	if !u.lost() {
		return nil
	}
	return h.server.ListenAgain(func() (net.Listener, error) {
		ln, err := u.listenAgain()
		if err == nil && ln != nil {
			h.log.Warn("socket was removed or replaced by somebody else: it listens there again", "socket", u.path)
		}
		return ln, err
	})
}

// Paths are what others may disturb, for who watches it and then calls Keep. A
// socket that was inherited is for its owner to keep.
func (u *unixSocket) Paths() []string {
	if u == nil || u.inherited != nil {
		return nil
	}
	return []string{u.path}
}

// listen binds the socket, or takes the one that was inherited.
func (u *unixSocket) listen() (net.Listener, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.inherited != nil {
		if l, ok := u.inherited.(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false)
		}
		return u.inherited, nil
	}
	b, err := bind(u.path, u.attributes.mode, u.attributes.uid, u.attributes.gid)
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
	u.mu.Lock()
	a := u.attributes
	u.mu.Unlock()
	return checkBind(u.path, a.uid, a.gid)
}

// remove takes the file away if it is still the one that listen made.
func (u *unixSocket) remove() {
	u.mu.Lock()
	b := u.bound
	u.bound = nil
	u.mu.Unlock()
	if b != nil {
		b.remove()
	}
}
