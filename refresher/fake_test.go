package refresher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeClock is bubble time plus an offset that tests step.
type fakeClock struct {
	start time.Time
	mu    sync.Mutex
	off   time.Duration
	alarm *fakeAlarm
}

func newFakeClock() *fakeClock { return &fakeClock{start: time.Now()} }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.off)
}

func (c *fakeClock) Elapsed() time.Duration { return time.Since(c.start) }

func (c *fakeClock) NewAlarm() (Alarm, error) {
	c.alarm = &fakeAlarm{clock: c, c: make(chan struct{}, 1)}
	return c.alarm, nil
}

// step sets the wall clock and fires the alarm, as the kernel does.
func (c *fakeClock) step(d time.Duration) {
	c.mu.Lock()
	c.off += d
	c.mu.Unlock()
	c.alarm.fire()
}

type fakeAlarm struct {
	clock *fakeClock
	c     chan struct{}
	mu    sync.Mutex
	timer *time.Timer
}

func (a *fakeAlarm) fire() {
	select {
	case a.c <- struct{}{}:
	default:
	}
}

func (a *fakeAlarm) Set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
	if !t.IsZero() {
		a.timer = time.AfterFunc(t.Sub(a.clock.Now()), a.fire)
	}
}

func (a *fakeAlarm) C() <-chan struct{} { return a.c }

func (a *fakeAlarm) Close() error {
	a.Set(time.Time{})
	return nil
}

// cloud is source, probe and what they know, for one token.
type cloud struct {
	mu       sync.Mutex
	identity string
	lifetime time.Duration
	n        int
	mints    []time.Time
	probed   []time.Time
	mint     func(n int) (Minted, error) // nil: a new value
	judge    func(v Value) Finding       // nil: accepted
}

func newCloud(lifetime time.Duration) *cloud {
	return &cloud{identity: "fake account", lifetime: lifetime}
}

func (c *cloud) Identity() string { return c.identity }
func (c *cloud) Target() string   { return "fake probe" }
func (c *cloud) Host() string     { return "fake host" }

func (c *cloud) Mint(context.Context) (Minted, error) {
	c.mu.Lock()
	c.mints = append(c.mints, time.Now())
	mint, n := c.mint, len(c.mints)
	c.mu.Unlock()
	if mint != nil { // without the lock: it may wait
		return mint(n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return Minted{Value: NewValue(fmt.Sprintf("%s-%d", c.identity, c.n)), Type: TypeIAM, ExpiresAt: time.Now().Round(0).Add(c.lifetime)}, nil
}

func (c *cloud) Probe(_ context.Context, v Value) Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probed = append(c.probed, time.Now())
	if c.judge != nil {
		return c.judge(v)
	}
	return Finding{Verdict: Accepted}
}

// set changes what the cloud does; nil gives the default.
func (c *cloud) set(mint func(n int) (Minted, error), judge func(Value) Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mint, c.judge = mint, judge
}

func (c *cloud) counts() (mints, probes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mints), len(c.probed)
}

var errOutage = errors.New("the cloud is away")

func outage(int) (Minted, error) { return Minted{}, errOutage }

func always(f Finding) func(Value) Finding { return func(Value) Finding { return f } }

// memorySink holds a version, or fails.
type memorySink struct {
	id     string
	mu     sync.Mutex
	err    error
	holds  *Version
	all    []Version
	closed bool
	block  chan struct{} // not nil: Publish waits for it
	tried  int           // how often Publish was called
}

func (s *memorySink) ID() string                  { return s.id }
func (s *memorySink) Check(context.Context) error { return s.failure() }

func (s *memorySink) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *memorySink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *memorySink) Publish(_ context.Context, v Version) error {
	if s.block != nil {
		<-s.block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	if s.err != nil {
		return s.err
	}
	if s.holds == nil || *s.holds != v {
		s.holds = &v
		s.all = append(s.all, v)
	}
	return nil
}

func (s *memorySink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *memorySink) Holds(_ context.Context, v Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds == nil || *s.holds != v {
		return errors.New("somebody changed it")
	}
	return nil
}

func (s *memorySink) disturb() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = nil
}

func (s *memorySink) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried
}

func (s *memorySink) versions() []Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Version(nil), s.all...)
}

// memoryStore is a Store that survives the Refresher.
type memoryStore struct {
	mu    sync.Mutex
	saved map[string]savedVersion
	err   error
}

type savedVersion struct {
	fingerprint string
	v           Version
	f           Finding
}

func (s *memoryStore) Load(token, fingerprint string) (Version, Finding, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.saved[token]
	return x.v, x.f, ok && x.fingerprint == fingerprint, nil
}

func (s *memoryStore) Save(_ context.Context, token, fingerprint string, v Version, f Finding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.saved == nil {
		s.saved = map[string]savedVersion{}
	}
	s.saved[token] = savedVersion{fingerprint, v, f}
	return nil
}

func every(d time.Duration) func(time.Time) time.Time {
	return func(t time.Time) time.Time { return t.Truncate(d).Add(d) }
}

func hourly() Policy {
	return Policy{Refresh: every(time.Hour), Probed: true, Reprobe: every(15 * time.Minute), Grace: 30 * time.Second}
}

// rig is a Refresher at work in a bubble.
type rig struct {
	*Refresher
	clock *fakeClock
	cloud *cloud
	sink  *memorySink
	spec  Spec
	stop  func()
}

func newRig(lifetime time.Duration) *rig {
	c := newCloud(lifetime)
	s := &memorySink{id: "memory"}
	return &rig{
		clock: newFakeClock(), cloud: c, sink: s,
		spec: Spec{Token: "bot", Required: true, Policy: hourly(), Source: c, Probe: c, Sinks: []Sink{s}},
	}
}

// more are n further tokens of the same source and probe, without sinks.
func (g *rig) more(n int) []Spec {
	specs := make([]Spec, n)
	for i := range specs {
		specs[i] = g.spec
		specs[i].Token, specs[i].Sinks = fmt.Sprint("more", i), nil
	}
	return specs
}

// run starts it; it ends with the test.
func (g *rig) run(t *testing.T, opt Options, more ...Spec) {
	t.Helper()
	opt.Clock = g.clock
	if opt.Random == nil {
		opt.Random = func() float64 { return 0.5 }
	}
	g.Refresher = New(opt)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- g.Run(ctx, append([]Spec{g.spec}, more...)) }()
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(g.stop)
	synctest.Wait()
}

// pass lets virtual time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (g *rig) status(t *testing.T) Status {
	t.Helper()
	s, ok := g.Snapshot(g.spec.Token)
	if !ok {
		t.Fatalf("no status of %q", g.spec.Token)
	}
	return s
}
