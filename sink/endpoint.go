package sink

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/peer"
)

// Live is what listeners know about the running daemon. Its functions are
// called concurrently, for every request, and must not block, but for Witness, Await,
// Refresh and Reload, which may take their time and end when ctx does; what
// Reload has begun may go on.
type Live struct {
	// Now is the wall time that expiries are judged by.
	Now func() time.Time
	// Snapshot is the state of a token.
	Snapshot func(token string) (refresher.Status, bool)
	// Report says that a reader was refused with this version.
	Report func(token, lineage string, n uint64)
	// Witness says that we saw it being refused, and returns when Snapshot
	// tells of it.
	Witness func(ctx context.Context, token, lineage string, n uint64)
	// Await returns when done is true of a token's status, which is looked at
	// now and at each change. done must not block.
	Await func(ctx context.Context, token string, done func(refresher.Status) bool) (refresher.Status, error)
	// Refresh mints, probes and publishes once; the string is for people.
	Refresh func(ctx context.Context, token string) (refresher.RefreshResult, string, error)
	// Reload reads the configuration again; the string says what changed.
	Reload func(ctx context.Context) (string, error)
	// Describe makes the document about tokens that GET /v1/tokens answers with,
	// to be marshalled as JSON. It holds no secrets.
	Describe func([]refresher.Status, time.Time) any
}

// Endpoint is the place of one token on a listener, and the sink that tells
// the listener of new versions. Readers see it between the listener's Update
// that names it and the next that does not.
type Endpoint struct {
	id, token string
	allow     *allowed
	standard  bool // answers for the name default
	check     func() error
	keep      func() error // nil where nothing can be lost
	forward   *forward     // of a proxy
	results   []readResult

	held  atomic.Pointer[held]
	reads [len(readResults)]atomic.Uint64
	// reportedAt is the Unix time in milliseconds of the last report that was
	// passed on, reported the version that it was about.
	reportedAt atomic.Int64
	reported   atomic.Pointer[string]
}

var _ refresher.Sink = (*Endpoint)(nil)

// held is what Publish left, with the headers of its answers.
type held struct {
	v            refresher.Version
	etag, length []string
	// next is closed when another version takes this one's place.
	next chan struct{}
}

type readResult int

const (
	readOK readResult = iota
	readNotModified
	readUnavailable
	readForbidden
	readRefused
	readFailed
)

var readResults = [...]string{"ok", "not_modified", "unavailable", "forbidden", "refused", "failed"}

// What a reader of a value, or a client of a proxy, can get.
var (
	valueResults = []readResult{readOK, readNotModified, readUnavailable, readForbidden}
	proxyResults = []readResult{readOK, readUnavailable, readForbidden, readRefused, readFailed}
)

func newEndpoint(id, token string, allow *allowed, standard bool, check func() error) *Endpoint {
	e := &Endpoint{id: id, token: token, allow: allow, standard: standard, check: check, results: valueResults}
	e.held.Store(&held{next: make(chan struct{})})
	return e
}

func newHeld(v refresher.Version) *held {
	return &held{
		v: v, next: make(chan struct{}),
		etag:   []string{`"` + v.ETag() + `"`},
		length: []string{strconv.Itoa(v.Value.Len())},
	}
}

// ID implements [refresher.Sink].
func (e *Endpoint) ID() string { return e.id }

// Token is the name of the token that this is a place of.
func (e *Endpoint) Token() string { return e.token }

// Check implements [refresher.Sink]: the listener listens, or could.
func (e *Endpoint) Check(context.Context) error { return e.check() }

// Publish implements [refresher.Sink]: it wakes those who wait for v. The error
// is why nobody else can come for it.
func (e *Endpoint) Publish(_ context.Context, v refresher.Version) error {
	if e.held.Load().v != v {
		close(e.held.Swap(newHeld(v)).next)
	}
	if e.keep == nil {
		return nil
	}
	return e.keep()
}

// Close implements [refresher.Sink]. Readers go on seeing the endpoint until
// the listener's Update or Close: that is what makes a change without a gap.
func (e *Endpoint) Close(context.Context) error { return nil }

// Reads counts the answers to readers by result: ok, not_modified (a wait that
// ended without news, too), unavailable (503) and forbidden (a peer that may
// not read this token); of a proxy also refused (the API said 401) and failed
// (it could not be reached).
func (e *Endpoint) Reads() map[string]uint64 {
	m := make(map[string]uint64, len(e.results))
	for _, r := range e.results {
		m[readResults[r]] = e.reads[r].Load()
	}
	return m
}

func (e *Endpoint) count(r readResult) { e.reads[r].Add(1) }

// current is what a reader may be given now; nil for nothing, and then why.
//
// The daemon's snapshot and Publish change one after the other. In between the
// newer of both is right: a reader gets no 503 for a renewal, and nothing that
// was already replaced.
func (e *Endpoint) current(live *Live) (*held, refresher.Status, time.Time) {
	h := e.held.Load()
	st, ok := live.Snapshot(e.token)
	now := live.Now()
	switch {
	case !ok:
		return nil, refresher.Status{Token: e.token, Health: refresher.Pending}, now
	case h.v.N > 0 && (st.Version == nil || st.Version.Lineage == h.v.Lineage && st.Version.N < h.v.N):
		if h.v.ExpiredAt(now) {
			return nil, refresher.Status{Token: e.token, Health: refresher.Expired, NextRefresh: st.NextRefresh}, now
		}
		return h, st, now
	case !st.Servable(now):
		return nil, st, now
	case h.v.N != st.Version.N || h.v.Lineage != st.Version.Lineage:
		return newHeld(*st.Version), st, now
	}
	return h, st, now
}

// table is what readers see; it is never changed, only replaced.
type table struct {
	byName   map[string]*Endpoint
	standard *Endpoint
	replaced chan struct{}
}

func newTable(endpoints []*Endpoint) *table {
	t := &table{byName: make(map[string]*Endpoint, len(endpoints)), replaced: make(chan struct{})}
	for _, e := range endpoints {
		t.byName[e.token] = e
		if e.standard && t.standard == nil {
			t.standard = e
		}
	}
	if t.standard == nil && len(endpoints) == 1 {
		t.standard = endpoints[0]
	}
	return t
}

// find returns the endpoint that p may read under name, or nil.
func (t *table) find(name string, p *peer.Peer) *Endpoint {
	return t.permit(t.byName[name], p)
}

// findOrDefault is find for reading, which knows a default.
func (t *table) findOrDefault(name string, p *peer.Peer) *Endpoint {
	e := t.byName[name]
	if e == nil && name == "default" {
		e = t.standard
	}
	return t.permit(e, p)
}

func (t *table) permit(e *Endpoint, p *peer.Peer) *Endpoint {
	if e == nil {
		return nil
	}
	if p != nil && !e.allow.admits(p) {
		e.count(readForbidden)
		return nil
	}
	return e
}

func (t *table) names() []string { return slices.Sorted(maps.Keys(t.byName)) }

// shrank tells whether p may read less in next than in t.
func (t *table) shrank(next *table, p *peer.Peer) bool {
	for name, e := range t.byName {
		if n := next.byName[name]; n != nil && n.allow != e.allow && e.allow.admits(p) && !n.allow.admits(p) {
			return true
		}
	}
	return false
}
