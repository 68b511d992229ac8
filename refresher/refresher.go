package refresher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the work at once and in time.
const (
	DefaultMints           = 16 // mints at once
	DefaultProbesPerSecond = 5  // per host
	DefaultProbeTimeout    = 10 * time.Second

	mintTimeout     = 30 * time.Second
	publishTimeout  = 10 * time.Second
	trialTimeout    = 30 * time.Second       // for a new source to give an accepted value
	shutdownTimeout = 500 * time.Millisecond // for workers to notice the end
	diskWorkers     = 16                     // saves and publishes at once
	probesAtOnce    = 16                     // per host
	postsAtOnce     = 64                     // before the clock is looked at again
)

// Spec is one configured token. Sources, probes and sinks that two specs share
// by identity (==) are the same to [Refresher.Swap].
type Spec struct {
	Token    string
	Required bool // readiness waits for it
	Policy   Policy
	Source   Source
	Probe    Probe // nil: published unproven
	// ProbeTimeout is for one probe; zero means DefaultProbeTimeout.
	ProbeTimeout time.Duration
	Sinks        []Sink
}

// fingerprint says whose value a saved one is, and what its verdict was about.
func (s Spec) fingerprint() string {
	if s.Probe == nil {
		return s.Source.Identity() + fingerprintMark + "unproven"
	}
	return s.Source.Identity() + fingerprintMark + s.Probe.Target()
}

// fingerprintMark stands between the parts of a fingerprint.
const fingerprintMark = " | "

// IdentityOf is the source's identity in a fingerprint that a [Store] was given.
func IdentityOf(fingerprint string) string {
	identity, _, _ := strings.Cut(fingerprint, fingerprintMark)
	return identity
}

// Options are what a [Refresher] works with.
type Options struct {
	Clock Clock
	Store Store        // nil: nothing survives a restart
	Log   *slog.Logger // nil: silent
	// Mints is how many run at once; zero means DefaultMints.
	Mints int
	// ProbesPerSecond is per host; zero means no limit.
	ProbesPerSecond float64
	// Random gives chances in [0,1); nil means math/rand.
	Random func() float64
	// OnMint and OnProbe, where set, are told how long each call took. They
	// are called from the loop and must not block.
	OnMint, OnProbe func(time.Duration)
	// OnChange, where set, is told after a token's status was made anew, which
	// may say the same as before. It is called from the loop and must not block.
	OnChange func(Status)
}

// Refresher runs the decisions for all tokens. One goroutine, that of
// [Refresher.Run], owns all states and a heap of wake times; workers mint,
// probe, save and publish, and post what came of it. Its methods may be called
// concurrently.
type Refresher struct {
	opt   Options
	clock *serverClock
	posts chan func()   // run by the loop, in order
	done  chan struct{} // closed when the loop has ended
	ready chan struct{} // closed when every required token was published everywhere
	// tokens is replaced as a whole by the loop and read by anyone.
	tokens atomic.Pointer[map[string]*entry]

	// Owned by the loop.
	work     context.Context
	entries  []*entry // the tokens in the order of their specs
	wakes    wakeHeap
	minters  lane
	mints    map[Source]*mintJob
	disk     lane
	hosts    []*hostLane
	unready  int
	lastTime time.Time

	workers sync.WaitGroup
}

// New makes a Refresher; it does nothing before [Refresher.Run].
func New(opt Options) *Refresher {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Random == nil {
		opt.Random = rand.Float64
	}
	if opt.Mints == 0 {
		opt.Mints = DefaultMints
	}
	r := &Refresher{
		opt:     opt,
		clock:   &serverClock{local: opt.Clock},
		posts:   make(chan func()),
		done:    make(chan struct{}),
		ready:   make(chan struct{}),
		minters: lane{limit: opt.Mints},
		mints:   map[Source]*mintJob{},
		disk:    lane{limit: diskWorkers},
	}
	r.tokens.Store(&map[string]*entry{})
	return r
}

// ErrEnded is returned by calls to a Refresher that has ended.
var ErrEnded = errors.New("the refresher has ended")

// Run keeps the tokens of specs fresh until ctx is done, which is its only
// good end. Saved versions are taken up first. Run may be called once; it
// returns after its workers have, but for those stuck in the kernel.
func (r *Refresher) Run(ctx context.Context, specs []Spec) error {
	defer close(r.done)
	alarm, err := r.opt.Clock.NewAlarm()
	if err != nil {
		return fmt.Errorf("make the wall-clock alarm: %w", err)
	}
	defer alarm.Close()
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	r.work = work
	r.start(specs)
	for {
		r.turn()
		if next := r.nextWake(); next.IsZero() {
			alarm.Set(time.Time{})
		} else {
			alarm.Set(r.clock.toLocal(next))
		}
		select {
		case f := <-r.posts:
			r.take(ctx, f)
		case <-alarm.C():
		case <-ctx.Done():
			cancel()
			r.waitForWorkers()
			return nil
		}
	}
}

// take runs f, and what else was posted by now: a crowd of workers that have
// ended needs one look at the clock.
func (r *Refresher) take(ctx context.Context, f func()) {
	for n := 1; ; n++ {
		if ctx.Err() == nil { // what the end cut off says nothing
			f()
		}
		if n == postsAtOnce {
			return
		}
		select {
		case f = <-r.posts:
		default:
			return
		}
	}
}

// turn does everything that is due.
func (r *Refresher) turn() {
	now := r.clock.Now()
	if now.Before(r.lastTime.Add(-time.Second)) {
		r.opt.Log.Debug("the clock went back, all schedules are looked at again", "by", r.lastTime.Sub(now).String())
		for _, e := range r.entries {
			for _, s := range e.sinks {
				s.shift(now)
			}
			e.apply(r, Looked{}, now)
			r.advance(e)
		}
	}
	r.lastTime = now
	for len(r.wakes) > 0 && !r.wakes[0].wake.After(now) {
		r.advance(r.wakes[0])
		now = earlier(now, r.clock.Now()) // set back meanwhile: what was due no longer is
	}
	for _, h := range r.hosts {
		r.pumpHost(h, now)
	}
}

func (r *Refresher) nextWake() time.Time {
	var next time.Time
	if len(r.wakes) > 0 {
		next = r.wakes[0].wake
	}
	for _, h := range r.hosts {
		if h.ready() {
			next = earlier(next, h.next)
		}
	}
	return next
}

// post hands f to the loop; false when the loop has ended. It must not be
// called from the loop.
func (r *Refresher) post(f func()) bool {
	select {
	case r.posts <- f:
		return true
	case <-r.done:
		return false
	}
}

// call runs f in the loop and waits for it.
func (r *Refresher) call(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case r.posts <- func() { f(); close(ran) }:
		select {
		case <-ran:
			return nil
		case <-r.done: // a loop that ends drops what is posted
			return ErrEnded
		}
	case <-r.done:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spawn starts a worker: do runs in a goroutine of its own and returns what
// the loop is to run next.
func (r *Refresher) spawn(do func() func()) {
	r.workers.Go(func() { r.post(do()) })
}

// waitForWorkers serves no posts any more: it drops them until the workers
// have ended. One that hangs in the kernel is left behind.
func (r *Refresher) waitForWorkers() {
	ended := make(chan struct{})
	go func() {
		r.workers.Wait()
		close(ended)
	}()
	timeout := time.NewTimer(shutdownTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-r.posts:
		case <-ended:
			return
		case <-timeout.C:
			return
		}
	}
}

// Alive returns nil when the loop turns, and ctx's error when it did not take
// notice before ctx was done.
func (r *Refresher) Alive(ctx context.Context) error { return r.call(ctx, func() {}) }

// Ready is closed when every required token was published to all its sinks.
func (r *Refresher) Ready() <-chan struct{} { return r.ready }

// Now is the time as the servers see it, as well as that is known.
func (r *Refresher) Now() time.Time { return r.clock.Now() }

// Skew is how far the servers' clock was ahead of the local one at the last
// answer that told.
func (r *Refresher) Skew() time.Duration { return r.clock.Skew() }

// Snapshot returns the status of a token; of none before [Refresher.Run] has
// taken up what was saved. It takes no lock and never waits.
func (r *Refresher) Snapshot(token string) (Status, bool) {
	e, ok := (*r.tokens.Load())[token]
	if !ok {
		return Status{}, false
	}
	return *e.status.Load(), true
}

// Snapshots returns the status of all tokens, in no order.
func (r *Refresher) Snapshots() []Status {
	tokens := *r.tokens.Load()
	all := make([]Status, 0, len(tokens))
	for _, e := range tokens {
		all = append(all, *e.status.Load())
	}
	return all
}

// Report says that a consumer got a 401 with this version. It returns before
// the value is probed.
func (r *Refresher) Report(token, lineage string, n uint64) {
	r.post(func() {
		if e, ok := (*r.tokens.Load())[token]; ok {
			e.apply(r, Reported{Lineage: lineage, N: n}, r.clock.Now())
			r.hasten(e)
			r.advance(e)
		}
	})
}

// Witness says that the API refused this version, with a 401, to a reader's
// request that passed through us: unlike a report, which is a reader's word, it
// needs one probe to be believed, and that is made at once. It returns before,
// when [Status.Witnessed] says that it is under way.
func (r *Refresher) Witness(ctx context.Context, token, lineage string, n uint64) {
	_ = r.call(ctx, func() { // whoever has gone does not mind
		e, ok := (*r.tokens.Load())[token]
		if !ok {
			return
		}
		known := e.state.Witnessed
		e.apply(r, Witnessed{Lineage: lineage, N: n}, r.clock.Now())
		if e.state.Witnessed && !known {
			r.log(e).Warn("the API refused the published value to a reader; it is probed now")
		}
		r.hasten(e)
		r.advance(e)
	})
}

// Disturbed says that something happened where a sink writes: perhaps somebody
// changed what it had written.
func (r *Refresher) Disturbed(token, sinkID string) {
	r.post(func() {
		if e, ok := (*r.tokens.Load())[token]; ok {
			e.disturbed(sinkID, r.clock.Now())
			r.advance(e)
		}
	})
}

// Request asks for a refresh and does not wait for it.
func (r *Refresher) Request(token string) {
	r.post(func() {
		if e, ok := (*r.tokens.Load())[token]; ok {
			e.apply(r, Requested{}, r.clock.Now())
			r.advance(e)
		}
	})
}

// Await returns when done is true of a token's status, which is looked at now
// and at each change. It runs in the loop and must not block.
func (r *Refresher) Await(ctx context.Context, token string, done func(Status) bool) (Status, error) {
	result := make(chan Status, 1)
	var e *entry
	var found bool
	err := r.call(ctx, func() {
		if e, found = (*r.tokens.Load())[token]; found {
			e.awaiting = append(e.awaiting, awaiting{done, result})
			e.answer()
		}
	})
	switch {
	case err != nil:
		return Status{}, err
	case !found:
		return Status{}, fmt.Errorf("await token %q: %w", token, ErrUnknownToken)
	}
	select {
	case s, ok := <-result:
		if !ok {
			return Status{}, fmt.Errorf("await token %q: %w", token, ErrUnknownToken)
		}
		return s, nil
	case <-r.done:
		return Status{}, ErrEnded
	case <-ctx.Done():
		r.post(func() { // many may come and go before the status changes
			e.awaiting = slices.DeleteFunc(e.awaiting, func(a awaiting) bool { return a.result == result })
		})
		return Status{}, ctx.Err()
	}
}

// RefreshOutcome is how a refresh ended.
type RefreshOutcome struct {
	Result RefreshResult
	Reason string // for people
	Status Status // afterwards
}

// ErrUnknownToken is wrapped when no token has the name.
var ErrUnknownToken = errors.New("no such token")

// Refresh refreshes a token now and returns how that ended: after the sinks
// were tried where there is a new version. A refresh that is under way counts.
func (r *Refresher) Refresh(ctx context.Context, token string) (RefreshOutcome, error) {
	outcome := make(chan RefreshOutcome, 1)
	var found bool
	err := r.call(ctx, func() {
		e, ok := (*r.tokens.Load())[token]
		if found = ok; !ok {
			return
		}
		e.waiters = append(e.waiters, outcome)
		e.apply(r, Requested{}, r.clock.Now())
		r.advance(e)
	})
	switch {
	case err != nil:
		return RefreshOutcome{}, err
	case !found:
		return RefreshOutcome{}, fmt.Errorf("refresh token %q: %w", token, ErrUnknownToken)
	}
	select {
	case o := <-outcome:
		return o, nil
	case <-r.done:
		return RefreshOutcome{}, ErrEnded
	case <-ctx.Done():
		return RefreshOutcome{}, ctx.Err()
	}
}
