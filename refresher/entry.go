package refresher

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// entry is a token at work. Everything but status belongs to the loop.
type entry struct {
	spec   Spec
	source string // the spec's Identity and Target, the same text for each snapshot
	probe  string
	state  State
	sinks  []*sinkState

	wake  time.Time // when to look again; zero: at the next event
	index int       // in the heap of wakes; -1 when not in it

	// gen counts the replacements of source and probe: results of work that
	// was begun before are dropped. gone: the token was removed.
	gen  int
	gone bool

	seen         bool   // was published to all sinks once
	why          string // of the newest mint
	short        bool   // what is published was about to end from the start
	storeFailure string
	saveFailures int       // in a row
	saveAgain    time.Time // what could not be saved; zero: nothing, or it is being tried
	durable      string    // the lineage that is saved, or may be
	misfiled     bool      // it is saved under the fingerprint of an earlier spec
	refreshes    RefreshCounts
	probes       ProbeCounts
	waiters      []chan RefreshOutcome
	outcome      *RefreshOutcome // waits for the sinks to be tried

	awaiting []awaiting

	status atomic.Pointer[Status]
}

// awaiting is somebody who waits for a status.
type awaiting struct {
	done   func(Status) bool
	result chan Status // has room for one
}

// answer tells those who waited for the status as it is now.
func (e *entry) answer() {
	s := *e.status.Load()
	e.awaiting = slices.DeleteFunc(e.awaiting, func(a awaiting) bool {
		if !a.done(s) {
			return false
		}
		a.result <- s
		return true
	})
}

// abandon tells those who wait that the token is no more.
func (e *entry) abandon() {
	for _, a := range e.awaiting {
		close(a.result)
	}
	e.awaiting = nil
}

func newEntry(spec Spec) *entry {
	e := &entry{index: -1, sinks: make([]*sinkState, 0, len(spec.Sinks))}
	e.setSpec(spec)
	for _, s := range spec.Sinks {
		e.sinks = append(e.sinks, &sinkState{sink: s, id: s.ID()})
	}
	e.status.Store(&Status{Token: spec.Token, Required: spec.Required, Health: Pending})
	return e
}

func (e *entry) setSpec(spec Spec) {
	e.spec, e.source, e.probe = spec, spec.Source.Identity(), ""
	if spec.Probe != nil {
		e.probe = spec.Probe.Target()
	}
}

// apply changes the state by an event.
func (e *entry) apply(r *Refresher, ev Event, now time.Time) {
	e.state.Roll = r.opt.Random()
	e.state.become(e.spec.Policy, ev, now)
}

// advance carries out what is due for e and says when to look again.
func (r *Refresher) advance(e *entry) {
	if e.gone {
		return
	}
	now := r.clock.Now()
	d := Decide(e.spec.Policy, e.state, now)
	for d.Do != Wait {
		r.carryOut(e, d, now)
		now = r.clock.Now()
		d = Decide(e.spec.Policy, e.state, now)
	}
	e.wake = earlier(d.Until, r.refile(e, now))
	for _, s := range e.sinks {
		e.wake = earlier(e.wake, r.advanceSink(e, s, now))
	}
	r.wakes.update(e)
	r.publishStatus(e, d, now)
	if e.outcome != nil {
		r.checkSeen(e)
	}
}

func (r *Refresher) carryOut(e *entry, d Decision, now time.Time) {
	switch d.Do {
	case Mint:
		r.debug(e, "minting", "code", d.Code, "reason", d.Reason)
		e.why = d.Reason
		e.apply(r, Started{Do: Mint}, now)
		r.startMint(e)
	case ProbeCandidate, ProbePublished:
		e.apply(r, Started{Do: d.Do}, now)
		r.startProbe(e, d)
	case Publish:
		r.startPublish(e, d, now)
	case Drop:
		attempts, known := e.state.Failures, e.state.LastFailure
		e.apply(r, Dropped{Decision: d}, now)
		switch {
		case d.Failed:
			r.log(e).Log(r.work, e.failureLevel(known), "new value not published", "reason", d.Reason, "retry_in", until(e.state.NotBefore, now), "expires_in", e.left(now))
		case attempts > 0:
			r.log(e).Info("refreshing works again", "failed_attempts", attempts, "reason", d.Reason)
		default:
			r.debug(e, "new value not published", "reason", d.Reason)
		}
		r.finish(e, d.Result, d.Reason)
	}
}

// failureLevel is how loud to be about the newest failure, after the one with
// the text known: the same again is said at every doubling of the attempts.
func (e *entry) failureLevel(known string) slog.Level {
	if n := e.state.Failures; e.state.LastFailure == known && n&(n-1) != 0 {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// publishStatus makes the snapshot that others read, and says so when the
// health changed.
func (r *Refresher) publishStatus(e *entry, d Decision, now time.Time) {
	s := &e.state
	status := &Status{
		Token: e.spec.Token, Source: e.source, Probe: e.probe, Required: e.spec.Required,
		Version: s.Published, Health: s.Health(now), Proof: s.Proof, VerifiedAt: s.VerifiedAt, DoubtSince: s.DoubtSince,
		Witnessed: s.Witnessed, Candidate: s.Held != nil,
		Code: d.Code, Reason: d.Reason, NextRefresh: d.NextRefresh, NextProbe: d.NextProbe,
		Failures: s.Failures, LastFailure: s.LastFailure, FailingSince: s.FailingSince, StoreFailure: e.storeFailure,
		Refreshes: e.refreshes, Probes: e.probes,
	}
	if len(e.sinks) > 0 {
		status.Sinks = make([]SinkStatus, len(e.sinks))
	}
	for i, sink := range e.sinks {
		status.Sinks[i] = sink.status(s.Published)
	}
	old := e.status.Swap(status)
	if old.Health != status.Health {
		r.logHealth(e, old, status, now)
	}
	if r.opt.OnChange != nil {
		r.opt.OnChange(*status)
	}
	e.answer()
}

func (r *Refresher) logHealth(e *entry, old, s *Status, now time.Time) {
	switch s.Health {
	case Expired:
		r.log(e).Error("expired: readers of sockets get 503, files keep the old value", "failed_attempts", s.Failures, "reason", s.Obstacle())
	case Revoked:
		r.log(e).Error("revoked: readers of sockets get 503 until there is a new value", "verdict", s.Proof.Verdict.String(), "reason", s.Proof.Reason)
	case NoAccess:
		r.log(e).Warn("no access: the value stays served", "verdict", s.Proof.Verdict.String(), "reason", s.Proof.Reason)
	case Fresh:
		if old.Version == s.Version && old.Health != Unchecked {
			r.log(e).Info("accepted again", "verdict", s.Proof.Verdict.String(), "expires_in", e.left(now))
		}
	}
}

// finish ends the refresh under way: it is counted, and whoever waits is told.
// After a publish they are told when the sinks were tried.
func (r *Refresher) finish(e *entry, result RefreshResult, reason string) {
	e.refreshes.add(result)
	if result == ResultUnchanged && e.outcome != nil {
		return // who waits hears of the new version that came before
	}
	outcome := &RefreshOutcome{Result: result, Reason: reason}
	if result == ResultPublished {
		e.outcome = outcome
		return
	}
	r.tell(e, outcome)
}

// tell answers everyone who waits for a refresh of e.
func (r *Refresher) tell(e *entry, outcome *RefreshOutcome) {
	if len(e.waiters) > 0 && (e.state.Minting || e.state.Requested) {
		// What was asked for after this refresh began is still to come. If
		// that is nothing new, a new version of this one is the news.
		if outcome.Result != ResultPublished {
			e.outcome = nil
		}
		return
	}
	if e.outcome = nil; len(e.waiters) == 0 {
		return
	}
	r.publishStatus(e, Decide(e.spec.Policy, e.state, r.clock.Now()), r.clock.Now())
	outcome.Status = *e.status.Load()
	for _, w := range e.waiters {
		w <- *outcome // has room for one
	}
	e.waiters = nil
}

// checkReady closes r.ready once every required token was on all its sinks.
func (r *Refresher) checkReady() {
	if r.unready != 0 {
		return
	}
	select {
	case <-r.ready:
	default:
		close(r.ready)
	}
}

// checkSeen notes when e has been published to all its sinks for the first
// time, and ends a refresh that waited for the sinks to be tried.
func (r *Refresher) checkSeen(e *entry) {
	v := e.state.Published
	current, tried := v != nil, true
	for _, s := range e.sinks {
		current = current && s.holds == v
		tried = tried && (s.holds == v || s.tried || s.overdue)
	}
	tried = tried || !e.state.usable(r.clock.Now()) // nothing is written then
	if current && !e.seen {
		e.seen = true
		if e.spec.Required {
			r.unready--
			r.checkReady()
		}
	}
	if e.outcome != nil && tried {
		r.tell(e, e.outcome)
	}
}

func (r *Refresher) log(e *entry) *slog.Logger { return r.opt.Log.With("token", e.spec.Token) }

// debug says what few want to read, several times for each refresh: a logger is
// made only for who does.
func (r *Refresher) debug(e *entry, msg string, args ...any) {
	if r.opt.Log.Enabled(r.work, slog.LevelDebug) {
		r.log(e).Debug(msg, args...)
	}
}

// left says how long the published value has.
func (e *entry) left(now time.Time) string {
	switch {
	case e.state.Published == nil:
		return "no value"
	case e.state.Published.ExpiresAt.IsZero():
		return "unknown"
	}
	return until(e.state.Published.ExpiresAt, now)
}

// until says how long it is from now to t, for logs.
func until(t, now time.Time) string {
	d := t.Sub(now)
	switch {
	case t.IsZero():
		return "unknown"
	case d >= time.Hour:
		return d.Round(time.Minute).String()
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
