package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/process"
)

// HooksOptions are what [Hooks] work with.
type HooksOptions struct {
	Processes *process.Owner
	Log       *slog.Logger
	Record    HookRecord // nil: a restart does everything again
}

// HookRecord remembers across restarts what was done: the ETag of the newest
// version by the sink's ID. Its methods are called for one token at a time.
type HookRecord interface {
	LoadHooks(token string) (map[string]string, error)
	SaveHooks(token string, done map[string]string) error
}

// Failed hooks are tried again after pauses that double.
const (
	hookRetryFirst = time.Second
	hookRetryMost  = 5 * time.Minute
)

// hooksMost is how many hooks run at once: each may be a process, and tokens of
// one account are renewed together.
const hooksMost = 16

// Hooks does what is to be done after sinks have taken a new version: for each
// sink one thing at a time, until it has succeeded or there is a newer version,
// which alone counts then. It follows the statuses of tokens and is nowhere in
// the way of a renewal. Its methods may be called concurrently.
//
// What was done is recorded after it was. A daemon that ends in between does it
// once more after its restart: a hook that runs twice does less harm than one
// that does not run.
type Hooks struct {
	opt   HooksOptions
	slots chan struct{} // holds something for each hook that runs

	mu      sync.Mutex // not held over files and programs
	byToken map[string]*tokenHooks
	work    context.Context // nil before Run
	news    chan struct{}   // closed and replaced when a hook has ended
	running sync.WaitGroup
}

// tokenHooks are those of one token.
type tokenHooks struct {
	token    string
	hooks    []*hookState
	failures uint64

	recording sync.Mutex // held over the record's files
}

// hookState is one hook. All belongs to Hooks.mu.
type hookState struct {
	Hook
	removed  bool
	loaded   bool // the record was asked
	want     hookVersion
	done     string // an ETag
	running  bool
	failure  string
	attempts int           // that failed in a row
	newer    chan struct{} // closed and replaced when want changes
}

// hookVersion is what a hook needs to know of a version.
type hookVersion struct {
	lineage, etag string
	n             uint64
}

// NewHooks makes Hooks that have nothing to do.
func NewHooks(o HooksOptions) *Hooks {
	return &Hooks{opt: o, slots: make(chan struct{}, hooksMost), byToken: map[string]*tokenHooks{}, news: make(chan struct{})}
}

// Set replaces what is to be done. A sink that keeps a hook, whichever it is,
// has had the versions that it had.
func (h *Hooks) Set(hooks []Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := map[string][]*hookState{}
	for token, t := range h.byToken {
		old[token], t.hooks = t.hooks, nil
	}
	for _, hook := range hooks {
		t := h.byToken[hook.Token]
		if t == nil {
			t = &tokenHooks{token: hook.Token}
			h.byToken[hook.Token] = t
		}
		s := &hookState{newer: make(chan struct{})}
		if i := slices.IndexFunc(old[hook.Token], func(s *hookState) bool { return s.Sink == hook.Sink }); i >= 0 {
			s = old[hook.Token][i]
		}
		if s.Hook = hook; s.failure != "" {
			s.tellNewer() // perhaps the change puts it right
		}
		t.hooks = append(t.hooks, s)
	}
	for token, states := range old {
		for _, s := range states {
			if !slices.Contains(h.byToken[token].hooks, s) {
				s.removed = true
				s.tellNewer()
			}
		}
		if len(h.byToken[token].hooks) == 0 {
			delete(h.byToken, token)
		}
	}
}

func (t *tokenHooks) find(sinkID string) *hookState {
	if t == nil {
		return nil
	}
	for _, s := range t.hooks {
		if s.Sink == sinkID {
			return s
		}
	}
	return nil
}

func (s *hookState) tellNewer() {
	close(s.newer)
	s.newer = make(chan struct{})
}

// Run lets hooks run until ctx is done, and returns when they have ended: those
// under way are killed, and done again after the next start.
func (h *Hooks) Run(ctx context.Context) {
	h.mu.Lock()
	h.work = ctx
	for _, t := range h.byToken {
		for _, s := range t.hooks {
			h.pursue(t, s)
		}
	}
	h.mu.Unlock()
	<-ctx.Done()
	h.running.Wait()
}

// Changed takes note of a token's status. It does not block.
func (h *Hooks) Changed(st refresher.Status) {
	if st.Version == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.byToken[st.Token]
	if t == nil {
		return
	}
	for _, sink := range st.Sinks {
		s := t.find(sink.ID)
		if s == nil || !sink.Current || s.want.lineage == st.Version.Lineage && s.want.n >= st.Version.N {
			continue // a snapshot may come later than the status after it
		}
		s.want = hookVersion{st.Version.Lineage, st.Version.ETag(), st.Version.N}
		s.tellNewer()
		h.pursue(t, s)
	}
}

// pursue starts what makes s.done s.want.
func (h *Hooks) pursue(t *tokenHooks, s *hookState) {
	if h.work == nil || h.work.Err() != nil || s.running || s.want.etag == s.done {
		return
	}
	s.running = true
	h.running.Go(func() { h.satisfy(h.work, t, s) })
}

// satisfy runs a hook until it has done what it is to do.
func (h *Hooks) satisfy(ctx context.Context, t *tokenHooks, s *hookState) {
	h.load(t, s)
	for {
		h.mu.Lock()
		want, hook, newer, pause := s.want, s.Hook, s.newer, time.Duration(0)
		if s.removed || s.done == want.etag || ctx.Err() != nil {
			s.running = false
			h.tell()
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()

		select {
		case h.slots <- struct{}{}:
		case <-newer:
			continue
		case <-ctx.Done():
			continue
		}
		limited, cancel := context.WithTimeout(ctx, hook.Timeout)
		err := hook.Action.Do(limited, h.opt.Processes, hook.environment(want))
		cancel()
		<-h.slots
		if ctx.Err() != nil && err != nil {
			continue // it was killed by our end, and has not failed
		}
		h.mu.Lock()
		if err == nil {
			h.succeeded(s, want)
		} else {
			pause = h.failed(t, s, want, err)
		}
		h.tell()
		h.mu.Unlock()
		if err == nil {
			h.save(t)
			continue
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-newer: // at once, then
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// environment is what a command is told. The value is not in it.
func (hook Hook) environment(v hookVersion) []string {
	env := []string{"ITR_HOOK_TOKEN=" + hook.Token, "ITR_HOOK_VERSION=" + strconv.FormatUint(v.n, 10), "ITR_HOOK_SINK=" + hook.Sink}
	if hook.Path != "" {
		env = append(env, "ITR_HOOK_PATH="+hook.Path)
	}
	return env
}

func (h *Hooks) succeeded(s *hookState, v hookVersion) {
	log := h.opt.Log.With("token", s.Token, "sink", s.Sink, "version", v.n)
	if s.attempts > 0 {
		log.Info("hook done at last", "failed_attempts", s.attempts)
	} else {
		log.Debug("hook done")
	}
	s.done, s.failure, s.attempts = v.etag, "", 0
}

// failed counts a failure and says how long to wait.
func (h *Hooks) failed(t *tokenHooks, s *hookState, v hookVersion, err error) time.Duration {
	s.attempts++
	t.failures++
	pause := min(hookRetryFirst<<min(s.attempts-1, 20), hookRetryMost)
	level := slog.LevelWarn
	if n := s.attempts; s.failure == err.Error() && n&(n-1) != 0 {
		level = slog.LevelDebug // the same again is said at every doubling
	}
	s.failure = err.Error()
	h.opt.Log.Log(context.Background(), level, "hook failed", "token", s.Token, "sink", s.Sink, "version", v.n,
		"error", err, "attempt", s.attempts, "retry_in", pause.String())
	return pause
}

// load takes up what s has done before the start.
func (h *Hooks) load(t *tokenHooks, s *hookState) {
	if h.opt.Record == nil {
		return
	}
	t.recording.Lock()
	defer t.recording.Unlock()
	h.mu.Lock()
	loaded := s.loaded
	for _, s := range t.hooks { // all of them: save writes all
		s.loaded = true
	}
	s.loaded = true
	h.mu.Unlock()
	if loaded {
		return
	}
	done, err := h.opt.Record.LoadHooks(t.token)
	if err != nil {
		h.opt.Log.Warn("it is not known which hooks were run before: they run once more", "token", t.token, "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range append([]*hookState{s}, t.hooks...) {
		if s.done == "" {
			s.done = done[s.Sink]
		}
	}
}

// save records what was done.
func (h *Hooks) save(t *tokenHooks) {
	if h.opt.Record == nil {
		return
	}
	t.recording.Lock()
	defer t.recording.Unlock()
	done := map[string]string{}
	h.mu.Lock()
	for _, s := range t.hooks {
		if s.done != "" {
			done[s.Sink] = s.done
		}
	}
	h.mu.Unlock()
	if err := h.opt.Record.SaveHooks(t.token, done); err != nil {
		h.opt.Log.Warn("a hook was run and that is not recorded: after a restart it runs once more", "token", t.token, "error", err)
	}
}

// Failures counts what failed of a token; ok is false when it has no hooks.
func (h *Hooks) Failures(token string) (n uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.byToken[token]
	if t == nil {
		return 0, false
	}
	return t.failures, true
}

// Failure says why the hook of a sink has not yet done its work; empty when it
// has, or is at it for the first time.
func (h *Hooks) Failure(token, sinkID string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.byToken[token].find(sinkID); s != nil {
		return s.failure
	}
	return ""
}

func (h *Hooks) tell() {
	close(h.news)
	h.news = make(chan struct{})
}

// Settle returns when every hook that is due has been tried, or when ctx ends,
// with what failed of the tokens that are required.
func (h *Hooks) Settle(ctx context.Context, required func(token string) bool) error {
	for {
		h.mu.Lock()
		waiting, missed, news := false, false, h.news
		var failed []error
		for _, t := range h.byToken {
			for _, s := range t.hooks {
				due, counts := s.running && s.failure == "", required(s.Token)
				waiting, missed = waiting || due, missed || due && counts
				if counts && s.failure != "" {
					failed = append(failed, fmt.Errorf("token %q: on_change of %s: %s", s.Token, s.Sink, s.failure))
				}
			}
		}
		h.mu.Unlock()
		if !waiting {
			return errors.Join(failed...)
		}
		select {
		case <-news:
		case <-ctx.Done():
			if missed {
				failed = append(failed, errors.New("hooks have not ended in time"))
			}
			return errors.Join(failed...)
		}
	}
}
