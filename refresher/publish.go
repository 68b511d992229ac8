package refresher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

const (
	restoreMost   = 3 // a sink that others disturb more often in restoreWindow is contested
	restoreWindow = 10 * time.Minute
)

// startPublish makes the candidate the next version: durable first, then on
// the sinks.
func (r *Refresher) startPublish(e *entry, d Decision, now time.Time) {
	c := e.state.Held
	v := c.Restored
	if v == nil {
		v = &Version{
			Token: e.spec.Token, Lineage: e.state.Lineage, N: e.state.N + 1,
			Value: c.Value, Type: c.Type, MintedAt: c.HeldSince, ExpiresAt: c.ExpiresAt, PublishedAt: now,
		}
		if v.Lineage == "" {
			v.Lineage = newLineage()
		}
	}
	e.apply(r, Started{Do: Publish}, now)
	finding, gen, why := c.Finding, e.gen, e.why
	r.save(e, *v, finding, func(err error) {
		if e.gone {
			return
		}
		if err != nil && v.Lineage == e.durable && c.Restored == nil {
			// A restart goes on from what is saved, and would give this number
			// to another value.
			fresh := *v
			fresh.Lineage, fresh.N = newLineage(), 1
			v = &fresh
		}
		now := r.clock.Now()
		attempts, since := e.state.Failures, e.state.FailingSince
		e.apply(r, Published{Version: v, Finding: finding, Reprobe: e.gen != gen}, now)
		attrs := []any{"version", v.N, "expires_in", until(v.ExpiresAt, now), "verdict", finding.Verdict.String(), "reason", why}
		if attempts > 0 {
			attrs = append(attrs, "failed_attempts", attempts, "trouble", now.Sub(since).Round(time.Second).String())
		}
		if finding.Verdict == Accepted || d.Code == codeUnproven {
			r.log(e).Info("published", attrs...)
		} else {
			r.log(e).Warn("published without an accepted probe: "+d.Reason, attrs...)
		}
		r.noteLife(e, now)
		for _, s := range e.sinks {
			s.newVersion()
		}
		r.finish(e, ResultPublished, d.Reason)
		r.checkSeen(e)
		r.advance(e)
	})
}

// shortLife is how long a value should have left for readers to do something with it.
const shortLife = 10 * time.Second

// noteLife says once when a source begins to give values that are as good as
// ended: each is asked for, proven and published, and nothing fails.
func (r *Refresher) noteLife(e *entry, now time.Time) {
	ends := e.state.Published.ExpiresAt
	short := !ends.IsZero() && ends.Sub(now) < shortLife
	if short && !e.short {
		r.log(e).Warn("the source gives values that are about to end: readers have hardly time for one, and it is asked for the next again and again; "+
			"look why it gives none that live longer", "expires_in", until(ends, now))
	}
	e.short = short
}

func newLineage() string { return rand.Text()[:12] }

// save makes a version durable and then calls end in the loop, also when it
// could not be done or took too long: state blocks nothing.
func (r *Refresher) save(e *entry, v Version, f Finding, end func(error)) {
	e.misfiled, e.saveAgain = false, time.Time{}
	if r.opt.Store == nil {
		r.workers.Go(func() { r.post(func() { end(nil) }) })
		return
	}
	fingerprint := e.spec.fingerprint()
	r.disk.run(func() {
		r.spawn(func() func() {
			err := r.saveInTime(v, fingerprint, f)
			return func() {
				r.disk.release()
				r.saved(e, err)
				end(err)
				if err == nil || errors.Is(err, errHangs) { // which may end well yet
					e.durable = v.Lineage
				}
			}
		})
	})
}

// refile saves what stays published after a change, once it is known to be what
// the new spec's would be, for a restart would discard it; and what could not be
// saved, after a while. It returns when to look again; zero when that depends on
// something else.
func (r *Refresher) refile(e *entry, now time.Time) time.Time {
	s := &e.state
	if s.Published == nil || s.Saving || s.Unchecked || s.SourceChanged {
		return time.Time{}
	}
	if e.misfiled || !e.saveAgain.IsZero() && !now.Before(e.saveAgain) {
		r.save(e, *s.Published, s.Proof, func(error) { r.advance(e) })
	}
	return e.saveAgain
}

func (r *Refresher) saveInTime(v Version, fingerprint string, f Finding) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.work), publishTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- r.opt.Store.Save(ctx, v.Token, fingerprint, v, f) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return errHangs
	}
}

var errHangs = fmt.Errorf("no answer within %s: the disk hangs", publishTimeout)

func (r *Refresher) saved(e *entry, err error) {
	if e.saveFailures++; err == nil {
		e.saveFailures = 0
	} else {
		e.saveAgain = r.clock.Now().Add(backoff(e.saveFailures, backoffMax, r.opt.Random()))
	}
	switch {
	case err != nil && e.storeFailure != err.Error():
		e.storeFailure = err.Error()
		r.log(e).Error("state not saved: after a restart this version may be unknown", "error", err)
	case err == nil && e.storeFailure != "":
		e.storeFailure = ""
		r.log(e).Info("state is saved again")
	}
}

// sinkState is one sink of a token. It belongs to the loop.
type sinkState struct {
	sink  Sink
	id    string
	holds *Version // nil: not known to hold any

	busy     bool
	deadline time.Time // of the work under way; zero while it waits for room
	overdue  bool      // it is past the deadline and no longer counted

	failures  int
	failure   string
	notBefore time.Time
	tried     bool // with the published version

	disturbed bool
	retries   []time.Time // for something that happened while it could not be written
	restores  []time.Time // of what somebody had changed
	contested bool
	removed   bool // close when idle
}

func (s *sinkState) status(current *Version) SinkStatus {
	st := SinkStatus{ID: s.id, Failure: s.failure, Contested: s.contested}
	if s.holds != nil {
		st.N = s.holds.N
		st.Current = s.holds == current && s.failure == ""
	}
	return st
}

// newVersion forgets what was about the version before.
func (s *sinkState) newVersion() {
	s.notBefore, s.retries, s.restores, s.contested, s.disturbed, s.tried = time.Time{}, nil, nil, false, false, false
}

// shift leaves no wait longer than there are when the clock went back.
func (s *sinkState) shift(now time.Time) {
	if !s.deadline.IsZero() {
		s.deadline = earlier(s.deadline, now.Add(publishTimeout))
	}
	if !s.notBefore.IsZero() {
		s.notBefore = earlier(s.notBefore, now.Add(backoffMax))
	}
	for _, times := range [][]time.Time{s.restores, s.retries} {
		for i := range times {
			times[i] = earlier(times[i], now)
		}
	}
}

// disturbed has a sink looked at. One that could not be written is tried again
// at once: what happened may be that somebody put right what was wrong.
func (e *entry) disturbed(sinkID string, now time.Time) {
	for _, s := range e.sinks {
		if s.id != sinkID || s.contested {
			continue
		}
		s.disturbed = true
		if s.failures > 0 && now.Before(s.notBefore) && mayAgain(&s.retries, now) {
			s.notBefore = now
		}
	}
}

// advanceSink makes a sink hold the published version and says when to look
// again.
func (r *Refresher) advanceSink(e *entry, s *sinkState, now time.Time) time.Time {
	v := e.state.Published
	switch {
	case s.busy && s.overdue, s.busy && s.deadline.IsZero():
		return time.Time{}
	case s.busy && now.Before(s.deadline):
		return s.deadline
	case s.busy:
		s.overdue = true
		s.failure = errSinkHangs
		r.log(e).Error("sink hangs", "sink", s.id, "error", s.failure)
		r.disk.release()
		r.checkSeen(e)
		return time.Time{}
	case v == nil:
		return time.Time{}
	case !e.state.usable(now):
		return time.Time{} // what it holds is no worse; the next version comes when there is one
	case s.holds != v && e.state.SourceChanged:
		return time.Time{} // it is the old account's; the new one's is about to come
	case s.holds != v && now.Before(s.notBefore):
		return s.notBefore
	case s.holds != v:
		r.publish(e, s, v)
	case s.disturbed:
		s.disturbed = false
		r.inspect(e, s, v)
	}
	return s.deadline
}

// errSinkHangs is the failure of a sink while it gives no answer.
var errSinkHangs = fmt.Sprintf("writing takes longer than %s: the disk or its server hangs", publishTimeout)

// publish makes s hold v.
func (r *Refresher) publish(e *entry, s *sinkState, v *Version) {
	r.sinkWork(e, s, func(ctx context.Context) error { return s.sink.Publish(ctx, *v) }, func(err error) {
		r.publishedTo(e, s, v, err)
	})
}

// inspect looks whether s still holds v, and puts v back where it does not.
func (r *Refresher) inspect(e *entry, s *sinkState, v *Version) {
	verifier, ok := s.sink.(Verifier)
	if !ok {
		r.publish(e, s, v)
		return
	}
	r.sinkWork(e, s, func(ctx context.Context) error { return verifier.Holds(ctx, *v) }, func(changed error) {
		if s.holds != v || e.state.Published != v {
			return
		}
		if changed == nil {
			if s.failure == errSinkHangs { // it has given one
				s.failure = ""
				r.log(e).Info("sink answers again, it holds what it should", "sink", s.id)
			}
			return
		}
		log := r.log(e).With("sink", s.id, "change", changed)
		if !mayAgain(&s.restores, r.clock.Now()) {
			s.contested = true
			s.failure = fmt.Sprintf("contested: changed more than %d times in %s: %v", restoreMost, restoreWindow, changed)
			log.Error("sink contested: somebody else keeps changing it; it is left alone until the next version")
			return
		}
		log.Warn("sink was changed by somebody else, putting the value back")
		r.publish(e, s, v)
	})
}

// mayAgain adds to times of the same, unless there were too many.
func mayAgain(times *[]time.Time, now time.Time) bool {
	for len(*times) > 0 && now.Sub((*times)[0]) >= restoreWindow {
		*times = (*times)[1:]
	}
	if len(*times) >= restoreMost {
		return false
	}
	*times = append(*times, now)
	return true
}

// sinkWork has a worker do something with s, one thing at a time, and calls
// end in the loop. What takes too long is reported and waited for all the same.
func (r *Refresher) sinkWork(e *entry, s *sinkState, do func(context.Context) error, end func(error)) {
	s.busy, s.overdue, s.deadline = true, false, time.Time{}
	r.disk.run(func() {
		if s.removed { // while it waited for room
			s.busy = false
			r.closeSink(e, s)
			r.disk.release()
			return
		}
		s.deadline = r.clock.Now().Add(publishTimeout)
		e.wake = earlier(e.wake, s.deadline)
		r.wakes.update(e)
		r.spawn(func() func() {
			ctx, cancel := context.WithTimeout(r.work, publishTimeout)
			defer cancel()
			err := do(ctx)
			return func() {
				if !s.overdue {
					r.disk.release()
				}
				s.busy, s.overdue, s.deadline = false, false, time.Time{}
				if s.removed {
					r.closeSink(e, s)
					return
				}
				end(err)
				r.checkSeen(e)
				r.advance(e)
			}
		})
	})
}

func (r *Refresher) publishedTo(e *entry, s *sinkState, v *Version, err error) {
	now := r.clock.Now()
	s.tried = s.tried || v == e.state.Published
	if err != nil {
		s.failures++
		s.notBefore = now.Add(backoff(s.failures, backoffMax, r.opt.Random()))
		if s.failure != err.Error() {
			s.failure = err.Error()
			r.log(e).Error("sink not written, its old content stays", "sink", s.id, "version", v.N, "error", err, "retry_in", until(s.notBefore, now))
		} else {
			r.debug(e, "sink not written again", "sink", s.id, "version", v.N, "attempt", s.failures, "retry_in", until(s.notBefore, now))
		}
		s.holds = nil // what it holds now is not known
		return
	}
	if s.failures > 0 {
		r.log(e).Info("sink written again", "sink", s.id, "version", v.N, "failed_attempts", s.failures)
	} else {
		r.debug(e, "sink written", "sink", s.id, "version", v.N)
	}
	s.holds, s.failures, s.failure, s.notBefore = v, 0, "", time.Time{}
}

// closeSink lets go of a sink that was removed. What it wrote stays.
func (r *Refresher) closeSink(e *entry, s *sinkState) {
	s.removed = true
	if s.busy {
		if !s.overdue && !s.deadline.IsZero() { // nobody looks at its deadline any more
			s.overdue = true
			r.spawn(func() func() { return r.disk.release }) // once all that go have gone
		}
		return // sinkWork comes back here
	}
	s.busy = true
	log := r.log(e).With("sink", s.id)
	r.spawn(func() func() {
		ctx, cancel := context.WithTimeout(r.work, publishTimeout)
		defer cancel()
		err := s.sink.Close(ctx)
		return func() {
			if err != nil {
				log.Error("sink not closed", "error", err)
			} else {
				log.Info("sink is no longer written to; what it holds stays")
			}
		}
	})
}
