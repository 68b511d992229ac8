package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"iam-token-refresher/refresher"
)

// Logins knows the login files of a process: sources of one file, such as the
// old one and the new one while a configuration changes, take turns, and know
// what the other could not store. The zero Logins is ready; its methods may be
// called concurrently.
type Logins struct {
	mu       sync.Mutex
	byPath   map[string]*loginFile
	underWay sync.WaitGroup // exchanges
}

// loginFile is what a process knows of a login file. Whoever has the turn owns
// the fields.
type loginFile struct {
	path  string
	turn  chan struct{} // holds one element while nobody has it
	write func(path string, l Login) error

	// wrote is what was written last, or is just being written. It may be read
	// without the turn.
	wrote atomic.Pointer[Login]

	// unstored is a login that took the place of the one with the refresh token
	// replaces, and could not be written yet.
	unstored *Login
	replaces refresher.Value
	// given is the access token that a source gave last, at givenAt.
	given   refresher.Value
	givenAt time.Time
}

func (ls *Logins) file(path string) *loginFile {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if f, ok := ls.byPath[path]; ok {
		return f
	}
	if ls.byPath == nil {
		ls.byPath = map[string]*loginFile{}
	}
	f := &loginFile{path: path, turn: make(chan struct{}, 1), write: writeLogin}
	f.turn <- struct{}{}
	ls.byPath[path] = f
	return f
}

// Changed tells whether the file holds something else than a source here wrote
// into it last.
func (ls *Logins) Changed(path string) bool {
	ls.mu.Lock()
	f := ls.byPath[path]
	ls.mu.Unlock()
	if f == nil {
		return true
	}
	wrote := f.wrote.Load()
	if wrote == nil {
		return true
	}
	l, err := readLogin(path)
	return err != nil || l.Access != wrote.Access || l.Refresh != wrote.Refresh
}

// Wait returns when no exchange is under way, or after the timeout. A process
// that ends earlier may lose a refresh token.
func (ls *Logins) Wait(timeout time.Duration) {
	done := make(chan struct{})
	go func() { // ends with the last exchange, and each has a limit
		ls.underWay.Wait()
		close(done)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// Between attempts to get a lock that another process has.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// lock gets the turn in this process.
func (f *loginFile) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case <-f.turn:
		return func() { f.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the refresh of %s that is under way: %w", f.path, ctx.Err())
	}
}

// lockOthers locks the login file against other processes: through a file
// beside it, since the login file itself is replaced. It belongs to whom the
// login belongs to, and stays.
func (f *loginFile) lockOthers(ctx context.Context) (unlock func(), err error) {
	path := f.path + ".lock"
	const flags = os.O_RDWR | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	lock, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		// The umask may have taken our own rights, for the next time.
		_ = lock.Chmod(0o600)
		// Else the daemon could not lock what root locked once. Only what we made
		// is given away: what was there may be a link to anything.
		if opt, err := writeOptions(f.path); err == nil && opt.UID >= 0 {
			_ = lock.Chown(opt.UID, opt.GID)
		}
	} else if errors.Is(err, fs.ErrExist) {
		lock, err = os.OpenFile(path, flags, 0)
		if errors.Is(err, fs.ErrPermission) && unbar(path) {
			lock, err = os.OpenFile(path, flags, 0)
		}
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, fmt.Errorf("lock %s: make %s: %w: uid %d must be able to write the directory of the login", f.path, path, err, os.Geteuid())
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := flock(lock)
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = lock.Close()
			return nil, fmt.Errorf("lock %s: %w: the file system must support locks, a local one does", f.path, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			_ = lock.Close()
			return nil, fmt.Errorf("lock %s: another process has it: %w", f.path, ctx.Err())
		}
	}
}

// unbar gives us the rights back that a umask took from a lock file of ours
// whose maker ended too early. Nothing outside its directory is changed, and
// that directory may be somebody else's.
func unbar(path string) bool {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return false
	}
	defer dir.Close()
	name := filepath.Base(path)
	st, err := dir.Lstat(name)
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o600 == 0o600 {
		return false
	}
	uid, _ := owner(st)
	return uid == os.Geteuid() && dir.Chmod(name, 0o600) == nil
}

// flock does not wait: whoever waits must be able to give up.
func flock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		for {
			if locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); locked != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, locked)
}
