package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"iam-token-refresher/refresher"
)

// file is a file on disk: it outlives the process.
type file struct {
	w       *world
	id      string
	token   *token
	holds   *refresher.Version // nil: not what we wrote, or nothing
	spoiled bool               // somebody changed it since we wrote
	listed  bool               // in the configuration in force
	freshBy time.Duration
	stormAt uint64 // the version that was disturbed too often
	hurt    []time.Duration
}

// fileSink is a process's hold on a file.
type fileSink struct {
	*file
	inst    *instance
	written *refresher.Version // by this object, last and without an error
	first   *refresher.Version // by this object, ever
	closed  bool
	later   bool // came with a reload
}

func (s *fileSink) ID() string { return s.id }

// Check implements [refresher.Sink].
func (s *fileSink) Check(context.Context) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.on("file fails", s.id) != nil {
		return errors.New("no space left on device")
	}
	return nil
}

// work is what any operation on a file goes through.
func (s *fileSink) work(ctx context.Context, what string) error {
	w := s.w
	w.mu.Lock()
	n := int(w.bubble())
	w.happened(func() string { return fmt.Sprintf("%s %s begins", s.id, what) }, what+s.id, n)
	latency := between(w.chance(what+s.id, n), time.Millisecond, 100*time.Millisecond)
	hangs := w.on("file hangs", s.id)
	w.mu.Unlock()
	for hangs != nil && s.inst.alive() { // in the kernel: nothing ends it but the disk
		time.Sleep(7*time.Second + latency)
		w.mu.Lock()
		hangs = w.on("file hangs", s.id)
		w.mu.Unlock()
	}
	if w.chance("late "+what+s.id, n) < 0.1 {
		latency *= 20
	}
	if err := wait(ctx, latency); err != nil && w.chance("gives up "+what+s.id, n) < 0.5 {
		return err
	}
	return nil
}

// Publish implements [refresher.Sink].
func (s *fileSink) Publish(ctx context.Context, v refresher.Version) error {
	w := s.w
	w.mu.Lock()
	w.checkPublish(s.token, v, s.id, s.closed)
	if t := s.token; s.inst == w.inst && t.prev != nil && t.prev.Lineage == v.Lineage && v.N < t.prev.N {
		w.violated("1", "%s is given %s after %s", s.id, v.ETag(), t.prev.ETag())
	}
	if s.holds != nil && *s.holds == v && s.written != nil && *s.written == v && !s.spoiled {
		w.violated("5", "%s is written again with the version that it holds, %s", s.id, v.ETag())
	}
	w.mu.Unlock()
	if err := s.work(ctx, "publish"); err != nil {
		s.written = nil
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.written = nil
	switch f := w.on("file fails", s.id); {
	case s.inst.dead:
		return errors.New("dead")
	case f != nil && w.chance("written all the same"+s.id, int(w.bubble())) < 0.8:
		return errors.New("no space left on device")
	case f != nil:
		s.holds, s.spoiled = &v, false
		return errors.New("the directory could not be synced")
	}
	s.holds, s.spoiled, s.written, s.first = &v, false, &v, &v
	w.happened(func() string { return fmt.Sprintf("%s holds %s", s.id, v.ETag()) }, "holds"+s.id, int(v.N))
	return nil
}

// Holds implements [refresher.Verifier].
func (s *fileSink) Holds(ctx context.Context, v refresher.Version) error {
	if err := s.work(ctx, "verify"); err != nil {
		return err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.spoiled || s.holds == nil || *s.holds != v {
		return errors.New("somebody changed it")
	}
	return nil
}

// Close implements [refresher.Sink].
func (s *fileSink) Close(context.Context) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.closed = true
	return nil
}

// socket is a place that readers ask; it dies with the process.
type socket struct {
	w     *world
	inst  *instance
	token *token
	held  *refresher.Version
	later bool
}

func (s *socket) ID() string                  { return "socket:" + s.token.name }
func (s *socket) Check(context.Context) error { return nil }
func (s *socket) Close(context.Context) error { return nil }

// Publish implements [refresher.Sink].
func (s *socket) Publish(_ context.Context, v refresher.Version) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.checkPublish(s.token, v, s.ID(), false)
	if s.held != nil && *s.held == v {
		s.w.violated("5", "%s is given the version that it has, %s", s.ID(), v.ETag())
	}
	s.held = &v
	return nil
}

// read is what a reader gets, as the socket's listener decides it: the newer of
// the snapshot and what was published; nil with why for nothing.
func (s *socket) read(st refresher.Status, ok bool, now time.Time) (*refresher.Version, string) {
	s.w.mu.Lock()
	h := s.held
	s.w.mu.Unlock()
	switch {
	case !ok:
		return nil, "pending"
	case h != nil && (st.Version == nil || st.Version.Lineage == h.Lineage && st.Version.N < h.N):
		if h.ExpiredAt(now) {
			return nil, "expired"
		}
		return h, ""
	case !st.Servable(now):
		return nil, string(st.HealthAt(now))
	}
	return st.Version, ""
}

// store is a state directory: it outlives the process.
type store struct {
	w     *world
	saved map[string]saved
	turn  map[string]chan struct{}
}

type saved struct {
	fingerprint string
	v           refresher.Version
	f           refresher.Finding
}

// storeOf is a process's hold on the store.
type storeOf struct {
	*store
	inst *instance
}

// Load implements [refresher.Store].
func (s storeOf) Load(token, fingerprint string) (refresher.Version, refresher.Finding, bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	x, ok := s.saved[token]
	if !ok || x.fingerprint != fingerprint {
		return refresher.Version{}, refresher.Finding{}, false, nil
	}
	return x.v, x.f, true, nil
}

// Save implements [refresher.Store].
func (s storeOf) Save(ctx context.Context, token, fingerprint string, v refresher.Version, f refresher.Finding) error {
	w := s.w
	w.mu.Lock()
	n := int(w.bubble())
	w.happened(func() string { return fmt.Sprintf("%s: saving %s %s", token, v.ETag(), f.Verdict) }, "save"+token, int(v.N))
	turn, ok := s.turn[token]
	if !ok {
		turn = make(chan struct{}, 1)
		s.turn[token] = turn
	}
	latency := between(w.chance("save"+token, n, int(v.N)), time.Millisecond, 300*time.Millisecond)
	w.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-turn }()
	for {
		time.Sleep(latency)
		w.mu.Lock()
		hangs := w.on("store hangs", "") != nil && !s.inst.dead
		w.mu.Unlock()
		if !hangs {
			break
		}
		latency = 3 * time.Second
	}
	if err := s.commit(token, fingerprint, v, f); err != nil {
		return err
	}
	time.Sleep(latency / 2) // durable, and we do not know it yet
	return nil
}

func (s storeOf) commit(token, fingerprint string, v refresher.Version, f refresher.Finding) error {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	old := s.saved[token]
	switch {
	case s.inst.dead:
		return errors.New("dead")
	case w.on("store fails", "") != nil:
		return errors.New("read-only file system")
	case old.v.Lineage == v.Lineage && v.N < old.v.N:
		return nil
	}
	s.saved[token] = saved{fingerprint, v, f}
	w.happened(func() string { return fmt.Sprintf("%s: saved %s %s", token, v.ETag(), f.Verdict) }, "saved"+token, int(v.N))
	return nil
}
