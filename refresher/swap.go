package refresher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Swap replaces the specs by others, all or nothing. A token that is new, or
// whose source or probe is another object than before, must mint a value that
// is accepted within 30 s, longer where many are to be probed; sinks that are
// other objects must pass their check.
// If all do, everything is swapped at once; otherwise nothing is, and the error
// names all that failed; it is a [*Failure], whose RetryAfter is not to be cut
// short by another try that nobody asks for. Unchanged tokens are carried over
// whatever their state. Swap waits for its end; concurrent calls must be kept
// apart by the caller. Sinks that are no longer listed are closed.
func (r *Refresher) Swap(ctx context.Context, specs []Spec) error {
	trials, err := r.prepare(ctx, specs)
	if err != nil {
		return err
	}
	limit := r.trialTime(trials)
	if limit > 2*trialTimeout { // somebody waits for it, and wonders
		r.opt.Log.Info("proving what is new, a few tokens a second", "takes_at_most", limit.String())
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var wg sync.WaitGroup
	for _, t := range trials {
		wg.Go(func() { t.run(ctx, r) })
	}
	wg.Wait()
	var problems []error
	var retryAfter time.Duration
	for _, t := range trials {
		if t.err != nil {
			problems = append(problems, fmt.Errorf("token %q: %w", t.spec.Token, t.err))
			retryAfter = max(retryAfter, t.patience(r.clock.Now(), r.opt.Random()))
		}
	}
	if len(problems) > 0 {
		return &Failure{Err: errors.Join(problems...), RetryAfter: retryAfter}
	}
	return r.call(ctx, func() { r.swap(trials) })
}

// trialTime is how long the trials have: they take turns at probing, one host's
// all perhaps.
func (r *Refresher) trialTime(trials []*trial) time.Duration {
	rate := r.opt.ProbesPerSecond
	if rate == 0 {
		return trialTimeout
	}
	probed := 0
	for _, t := range trials {
		if t.prove && t.spec.Probe != nil {
			probed++
		}
	}
	return trialTimeout + time.Duration(float64(probed)/rate*float64(time.Second))
}

// trial is one spec on its way in.
type trial struct {
	spec          Spec
	prove         bool // mint and probe
	sourceChanged bool
	newSinks      []Sink
	deadline      time.Time // of the published value

	candidate  Candidate
	err        error
	retryAfter time.Duration // what the source or the API asked for
}

// patience is how long whoever turned the trial away is left alone, as for any
// other attempt.
func (t *trial) patience(now time.Time, roll float64) time.Duration {
	wish := askedFor(t.retryAfter, now, roll)
	return wish.end(t.deadline).Sub(wish.at)
}

// prepare compares the specs with what runs.
func (r *Refresher) prepare(ctx context.Context, specs []Spec) ([]*trial, error) {
	trials := make([]*trial, 0, len(specs))
	err := r.call(ctx, func() {
		tokens := *r.tokens.Load()
		for _, spec := range specs {
			t := &trial{spec: spec, prove: true, sourceChanged: true}
			old := map[Sink]bool{}
			if e, ok := tokens[spec.Token]; ok {
				t.prove = e.spec.Source != spec.Source || e.spec.Probe != spec.Probe
				t.sourceChanged = e.source != spec.Source.Identity()
				t.deadline = e.spec.Policy.deadline(e.state.Published)
				for _, s := range e.spec.Sinks {
					old[s] = true
				}
			}
			for _, s := range spec.Sinks {
				if !old[s] {
					t.newSinks = append(t.newSinks, s)
				}
			}
			trials = append(trials, t)
		}
	})
	return trials, err
}

func (t *trial) run(ctx context.Context, r *Refresher) {
	var problems []error
	for _, s := range t.newSinks {
		if err := s.Check(ctx); err != nil {
			problems = append(problems, fmt.Errorf("sink %s: %w", s.ID(), err))
		}
	}
	if t.prove {
		if err := t.mintAndProbe(ctx, r); err != nil {
			problems = append(problems, err)
		}
	}
	t.err = errors.Join(problems...)
}

func (t *trial) mintAndProbe(ctx context.Context, r *Refresher) error {
	type answer struct {
		m   Minted
		err error
	}
	minted, err := await(ctx, r, func(end func(answer)) {
		r.mintAlone(t.spec.Source, nil, func(m Minted, err error) { end(answer{m, err}) })
	})
	if err == nil {
		err = minted.err
	}
	if err != nil {
		t.retryAfter = AsFailure(err).RetryAfter
		return err
	}
	t.candidate = Candidate{Minted: minted.m}
	if t.spec.Probe == nil {
		return nil
	}
	for n := 1; ; n++ {
		finding, err := await(ctx, r, func(end func(Finding)) { r.probe(t.spec, minted.m.Value, renewing, nil, end) })
		if err != nil {
			return err
		}
		t.candidate.Finding, t.retryAfter = finding, finding.RetryAfter
		if finding.Verdict == Accepted {
			return nil
		}
		again := time.Duration((float64(n) + r.opt.Random()) * float64(trialPause))
		if finding.Verdict == Unknown && n < trialProbes && pause(ctx, max(again, finding.RetryAfter)) {
			continue
		}
		return fmt.Errorf("its new value was not accepted: %s: %s", finding.Verdict, finding.Reason)
	}
}

// pause waits for d. It returns false, at once, when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await has the loop begin something and waits for what it ends with.
func await[T any](ctx context.Context, r *Refresher, begin func(end func(T))) (T, error) {
	result := make(chan T, 1)
	err := r.call(ctx, func() { begin(func(t T) { result <- t }) })
	var none T
	if err != nil {
		return none, err
	}
	select {
	case t := <-result:
		return t, nil
	case <-r.done:
		return none, ErrEnded
	case <-ctx.Done():
		return none, fmt.Errorf("no answer in time: %w", ctx.Err())
	}
}

// swap puts the proven specs into force. It runs in the loop.
func (r *Refresher) swap(trials []*trial) {
	now := r.clock.Now()
	old := *r.tokens.Load()
	tokens := make(map[string]*entry, len(trials))
	r.unready = 0
	before := r.entries
	r.entries = make([]*entry, 0, len(trials))
	for _, t := range trials {
		e, ok := old[t.spec.Token]
		if ok {
			r.replaceSinks(e, t.spec.Sinks)
			e.misfiled = e.misfiled || e.spec.fingerprint() != t.spec.fingerprint()
			e.setSpec(t.spec)
		} else {
			e = newEntry(t.spec)
			r.log(e).Info("token added")
		}
		if t.prove {
			e.gen++
			e.why = "its source or probe is new"
			e.apply(r, Replaced{Candidate: t.candidate, SourceChanged: t.sourceChanged}, now)
		}
		if e.spec.Required && !e.seen {
			r.unready++
		}
		tokens[t.spec.Token] = e
		r.entries = append(r.entries, e)
	}
	for _, e := range before {
		if tokens[e.spec.Token] == nil {
			r.remove(e)
		}
	}
	r.tokens.Store(&tokens)
	for _, e := range r.entries {
		r.advance(e)
		r.checkSeen(e)
	}
	r.checkReady()
}

func (r *Refresher) replaceSinks(e *entry, sinks []Sink) {
	before := e.sinks
	e.sinks = nil
	for _, sink := range sinks {
		i := slices.IndexFunc(before, func(s *sinkState) bool { return s.sink == sink })
		if i < 0 {
			e.sinks = append(e.sinks, &sinkState{sink: sink, id: sink.ID()})
		} else {
			e.sinks = append(e.sinks, before[i])
		}
	}
	for _, s := range before {
		if !slices.Contains(e.sinks, s) {
			r.closeSink(e, s)
		}
	}
}

// remove ends a token. What its sinks hold stays.
func (r *Refresher) remove(e *entry) {
	e.gone = true
	e.wake = time.Time{}
	r.wakes.remove(e)
	r.log(e).Info("token removed; what its sinks hold stays")
	e.state.Minting, e.state.Requested = false, false // nobody waits for it any more
	r.tell(e, &RefreshOutcome{Result: ResultFailed, Reason: "the token was removed from the configuration"})
	e.abandon()
	for _, s := range e.sinks {
		r.closeSink(e, s)
	}
}
