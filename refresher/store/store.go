// Package store keeps the published versions of tokens across restarts, in a
// directory of its own: one file per token, readable by us alone, replaced
// atomically and durably.
//
// A state that cannot be trusted is set aside and never half used: a file with a
// wrong checksum, format, owner or mode becomes NAME.json.corrupt-TIME, of which
// the newest few are kept. A state of another fingerprint (another account,
// another probe) is not used either, but stays until the next version replaces
// it: whoever takes back a mistake in the configuration has the state back, too.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/atomicfile"
)

// Options configure a Store.
type Options struct {
	// Log takes what a person should know about the directory. Nil logs nothing.
	Log *slog.Logger
}

// Store is a [refresher.Store] in a directory, which it holds locked. Its
// methods may be called concurrently; those of one token wait for each other,
// those of different tokens do not, also when the disk hangs.
type Store struct {
	dir   string
	log   *slog.Logger
	write func(path string, data []byte) error // a variable for tests

	retaking sync.Mutex // one at a time makes the directory anew

	mu      sync.Mutex // never held over files: these may hang
	slots   map[string]*slot
	lock    *os.File
	writers int // changes under way; the last one lets the lock go after Close
	closed  bool
}

var _ refresher.Store = (*Store)(nil)

// slot is what is remembered of one token.
type slot struct {
	turn    chan struct{} // holds one element while nobody has the file
	lineage string
	n       uint64 // the highest number saved in lineage
}

var errClosed = errors.New("the state directory was closed")

// Open makes dir if it is missing (its parent must exist) and locks it until
// Close, or until the process ends in whatever way. The error is a
// [*LockedError] when another process has it. A dir that others may enter is
// closed to them, with a warning, if nobody else can have a use for it; any
// other is refused as it is, and so is one that belongs to somebody else.
//
// On a file system that is read-only, what is there can be loaded and nothing
// saved.
func Open(dir string, opt Options) (*Store, error) {
	log := opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{dir: dir, log: log, write: writeFile, slots: make(map[string]*slot)}
	lock, err := s.secure()
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	s.lock = lock
	return s, nil
}

// secure makes the directory ours and locks it.
func (s *Store) secure() (*os.File, error) {
	if err := makeDir(s.dir, s.log); err != nil {
		return nil, err
	}
	return lockDir(s.dir, s.log)
}

func writeFile(path string, data []byte) error {
	return atomicfile.Write(path, data, atomicfile.Options{Mode: 0o600, UID: -1, GID: -1})
}

// Close lets the directory go. It waits for nobody: a Save that hangs on the
// disk keeps the lock until it ends. It may be called again.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.release()
}

// release unlocks a closed directory that nobody writes any more.
func (s *Store) release() error {
	if !s.closed || s.writers > 0 || s.lock == nil {
		return nil
	}
	// Closing alone would leave the lock to a child that is being forked just
	// now, until it begins its program.
	err := errors.Join(flock(s.lock, syscall.LOCK_UN), s.lock.Close())
	s.lock = nil
	return err
}

// Load returns what was saved last for token under fingerprint. Of the finding
// it returns verdict and reason. ok is false when there is nothing, or another
// fingerprint's, which stays in place until the next Save. An error says why
// what is there cannot be used and where it was set aside; there is nothing to
// load the next time.
func (s *Store) Load(token, fingerprint string) (v refresher.Version, f refresher.Finding, ok bool, err error) {
	name, err := fileName(token)
	if err != nil {
		return v, f, false, err
	}
	sl := s.slot(token)
	<-sl.turn
	defer sl.done()
	path := filepath.Join(s.dir, name)
	r, err := s.read(path, token)
	if errors.Is(err, fs.ErrNotExist) {
		return v, f, false, nil
	}
	if err != nil {
		return v, f, false, fmt.Errorf("load the state of token %q: %w", token, err)
	}
	if r.Fingerprint != fingerprint {
		s.log.Info("what was saved is not used: it is of another account, probe or endpoint", "token", token,
			"version", r.N, "saved_for", r.Fingerprint, "wanted", fingerprint)
		return v, f, false, nil
	}
	v, f = r.version(), r.finding()
	sl.lineage, sl.n = v.Lineage, v.N
	return v, f, true, nil
}

// Fingerprint returns under which fingerprint token was saved last in dir, which
// need not be open; empty when there is nothing that can be used.
func Fingerprint(dir, token string) string {
	name, err := fileName(token)
	if err != nil {
		return ""
	}
	data, err := readPrivate(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	r, err := decode(data, token)
	if err != nil {
		return ""
	}
	return r.Fingerprint
}

// Save makes v durable before it returns. A lower number than the one that was
// saved or loaded before in the same lineage is ignored: it comes late, from a
// write that hung. ctx is not looked at any more once the write has begun, and a
// disk that hangs keeps Save; another Save of the same token then waits as long
// as its ctx allows.
func (s *Store) Save(ctx context.Context, token, fingerprint string, v refresher.Version, f refresher.Finding) error {
	if err := s.save(ctx, token, fingerprint, v, f); err != nil {
		return fmt.Errorf("save the state of token %q: %w", token, err)
	}
	return nil
}

func (s *Store) save(ctx context.Context, token, fingerprint string, v refresher.Version, f refresher.Finding) error {
	name, err := fileName(token)
	if err != nil {
		return err
	}
	sl := s.slot(token)
	if err := sl.take(ctx); err != nil {
		return err
	}
	defer sl.done()
	if v.Lineage == sl.lineage && v.N < sl.n {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	data, err := encode(newRecord(token, fingerprint, v, f))
	if err != nil {
		return err
	}
	if err := s.write(filepath.Join(s.dir, name), data); err != nil {
		return err
	}
	sl.lineage, sl.n = v.Lineage, v.N
	return nil
}

func (s *Store) slot(token string) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.slots[token]
	if sl == nil {
		sl = &slot{turn: make(chan struct{}, 1)}
		sl.turn <- struct{}{}
		s.slots[token] = sl
	}
	return sl
}

func (sl *slot) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("not begun: %w", context.Cause(ctx))
	}
	select {
	case <-sl.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the write before it has not ended, the disk may hang: %w", context.Cause(ctx))
	}
}

func (sl *slot) done() { sl.turn <- struct{}{} }

// begin is called before the directory is changed; when it succeeds, end is
// called after it.
func (s *Store) begin() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	s.writers++
	lock := s.lock
	s.mu.Unlock()
	if holdsLock(s.dir, lock) {
		return nil
	}
	if err := s.retake(); err != nil {
		s.end()
		return err
	}
	return nil
}

func (s *Store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writers--
	_ = s.release()
}

// retake makes and locks the directory again after somebody removed it, or the
// lock in it: without a lock a second daemon could write here.
func (s *Store) retake() error {
	s.retaking.Lock()
	defer s.retaking.Unlock()
	s.mu.Lock()
	old := s.lock
	s.mu.Unlock()
	if holdsLock(s.dir, old) {
		return nil // another writer did it
	}
	lock, err := s.secure()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.lock = lock
	s.mu.Unlock()
	_ = old.Close()
	s.log.Warn("the state directory or its lock was removed, and was taken again", "dir", s.dir)
	return nil
}
