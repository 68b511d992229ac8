package refresher

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// lane runs a limited number of jobs at once, the others in order. It belongs
// to the loop.
type lane struct {
	limit, running int
	queue          queue[func()]
}

// run calls start now or when there is room. Whoever ends the job calls release.
func (l *lane) run(start func()) {
	if l.running == l.limit {
		l.queue.push(start)
		return
	}
	l.running++
	start()
}

func (l *lane) release() {
	l.running--
	if len(l.queue) > 0 && l.running < l.limit {
		start := l.queue.pop()
		l.running++
		start()
	}
}

// queue keeps nothing of what has left it.
type queue[T any] []T

func (q *queue[T]) push(x T) { *q = append(*q, x) }

func (q *queue[T]) pop() T {
	var none T
	x := (*q)[0]
	(*q)[0] = none
	if *q = (*q)[1:]; len(*q) == 0 {
		*q = nil
	}
	return x
}

// mintJob is a mint under way or waiting for room. Tokens of one source that
// are due meanwhile share it. Those of one identity and another key do not: what
// is wrong with the one is not to be blamed on the other, nor hidden by it.
type mintJob struct{ ends []func(Minted, error) }

// mint asks a source and calls end in the loop with the answer. It joins a mint
// of the same source that is under way.
func (r *Refresher) mint(source Source, refused []Value, end func(Minted, error)) {
	if job, ok := r.mints[source]; ok {
		job.ends = append(job.ends, end)
		return
	}
	job := &mintJob{ends: []func(Minted, error){end}}
	r.mints[source] = job
	r.mintAlone(source, refused, func(m Minted, err error) {
		delete(r.mints, source)
		for _, end := range job.ends {
			end(m, err)
		}
	})
}

// mintAlone asks just this source: a new key is not proven by the old one.
func (r *Refresher) mintAlone(source Source, refused []Value, end func(Minted, error)) {
	r.minters.run(func() {
		r.spawn(func() func() {
			ctx, cancel := context.WithTimeout(r.work, mintTimeout)
			defer cancel()
			before := r.clock.moment()
			m, err := source.Mint(WithRefused(ctx, refused...))
			m.ExpiresAt = writable(m.ExpiresAt)
			after := r.clock.moment()
			return func() {
				r.minters.release()
				r.observe(m.ServerTime, before, after)
				if err != nil {
					r.observe(AsFailure(err).ServerTime, before, after)
				} else {
					err = r.unfit(m)
				}
				if r.opt.OnMint != nil {
					r.opt.OnMint(after.elapsed - before.elapsed)
				}
				end(m, err)
			}
		})
	})
}

// writable is t, or the last moment that can be written: JSON and RFC 3339 have
// no years after 9999, and some write "never" so that it is one in UTC.
func writable(t time.Time) time.Time {
	if last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC); t.After(last) {
		return last
	}
	return t
}

// unfit says why a minted value cannot even be a candidate.
func (r *Refresher) unfit(m Minted) error {
	now := r.clock.Now()
	switch {
	case m.Value.IsZero():
		return fmt.Errorf("the source gave an empty value")
	case !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now):
		return fmt.Errorf("the source gave a value that expired %s ago: check the clock of this machine and of the source", until(now, m.ExpiresAt))
	}
	return nil
}

// observe takes in a server's Date and says so when the skew begins to matter.
func (r *Refresher) observe(date time.Time, before, after moment) {
	old := r.clock.Skew()
	r.clock.observe(date, before, after)
	skew := r.clock.Skew()
	matters := func(d time.Duration) bool { return d.Abs() > skewTolerated }
	switch {
	case matters(skew) && !matters(old):
		r.opt.Log.Warn("the local clock is wrong, expiry is judged by the servers' clock: set the time (NTP)", "skew", skew.Round(time.Second).String())
	case !matters(skew) && matters(old):
		r.opt.Log.Info("the local clock is right again")
	}
}

func (r *Refresher) startMint(e *entry) {
	gen := e.gen
	r.mint(e.spec.Source, e.state.refused(), func(m Minted, err error) {
		if e.gone || e.gen != gen {
			return
		}
		now := r.clock.Now()
		if err != nil {
			known := e.state.LastFailure
			e.apply(r, MintFailed{Failure: *AsFailure(err)}, now)
			r.log(e).Log(r.work, e.failureLevel(known), "refresh failed", "error", err, "attempt", e.state.Failures,
				"retry_in", until(e.nextMint(now), now), "expires_in", e.left(now))
			r.finish(e, ResultFailed, err.Error())
		} else {
			r.debug(e, "minted", "expires_in", until(m.ExpiresAt, now), "bytes", m.Value.Len())
			held := e.state.Held
			e.apply(r, MintSucceeded{Minted: m}, now)
			if held != nil && held.Value == m.Value && held.Finding.Verdict == Unknown {
				r.finish(e, ResultHeld, held.Finding.Reason) // there is no news to wait for
			}
		}
		r.advance(e)
		r.answerHeld(e)
	})
}

// answerHeld tells those who wait for a refresh when the probe of its candidate
// must not begin soon. The refresh is counted when that has been.
func (r *Refresher) answerHeld(e *entry) {
	now := r.clock.Now()
	if c := planCandidate(e.spec.Policy, e.state, now); c.Do == ProbeCandidate && c.at.Sub(now) > DefaultProbeTimeout {
		r.tell(e, &RefreshOutcome{Result: ResultHeld, Reason: fmt.Sprintf("no probe may begin before %s (in %s): the API asked for that, or too many could not tell",
			c.at.UTC().Format(time.RFC3339), until(c.at, now))})
	}
}

// nextMint is when the source is asked next.
func (e *entry) nextMint(now time.Time) time.Time {
	return later(now, planMint(e.spec.Policy, e.state, now).at)
}

// hostLane limits the probes of one host in rate and number. Those that wait
// do so in one queue for each urgency.
type hostLane struct {
	host    string
	waiting [len(urgencies)]queue[waitingProbe]
	running int
	rate    budget
	next    time.Time // when the rate allows the next
}

// urgency orders the probes of one host: what is more urgent goes first. None of
// them waits for ever: the budget of its token bounds how many are urgent.
type urgency int

const (
	refusing  urgency = iota // a reader is refused, or has nothing: whether it is so, and what will replace it
	renewing                 // a new value, while the old one does
	scheduled                // a published value, once more
)

var urgencies = [...]urgency{refusing, renewing, scheduled}

type waitingProbe struct {
	of    *entry // nil: of a configuration that is tried
	start func()
}

// ready tells whether there is a probe to start, but for the rate.
func (h *hostLane) ready() bool {
	return h.running < probesAtOnce && slices.ContainsFunc(urgencies[:], func(u urgency) bool { return len(h.waiting[u]) > 0 })
}

// pop takes out the most urgent probe; there must be one.
func (h *hostLane) pop() (start func()) {
	u := slices.IndexFunc(h.waiting[:], func(q queue[waitingProbe]) bool { return len(q) > 0 })
	return h.waiting[u].pop().start
}

// hasten makes e's probe urgent where it waits.
func (h *hostLane) hasten(e *entry) {
	for _, u := range urgencies[1:] {
		h.waiting[u] = slices.DeleteFunc(h.waiting[u], func(p waitingProbe) bool {
			if p.of == e {
				h.waiting[refusing].push(p)
			}
			return p.of == e
		})
	}
}

// pumpHost starts the probes that the limits allow.
func (r *Refresher) pumpHost(h *hostLane, now time.Time) {
	interval, burst := time.Duration(0), 1
	if rate := r.opt.ProbesPerSecond; rate > 0 {
		interval, burst = time.Duration(float64(time.Second)/rate), int(math.Ceil(rate))
	}
	if full := now.Add(time.Duration(burst) * interval); h.rate.tat.After(full) {
		h.rate.tat = full // the clock went back
	}
	for h.ready() {
		if h.next = h.rate.ready(burst); h.next.After(now) {
			return
		}
		h.rate = h.rate.take(now, interval, burst, 0)
		h.running++
		h.pop()()
	}
}

// hostLane returns the lane of a host. There are a handful of hosts.
func (r *Refresher) hostLane(host string) *hostLane {
	for _, h := range r.hosts {
		if h.host == host {
			return h
		}
	}
	h := &hostLane{host: host}
	r.hosts = append(r.hosts, h)
	return h
}

// hasten gets on with the probe of a token whose value was refused to a reader,
// where it waits for its turn among a thousand others.
func (r *Refresher) hasten(e *entry) {
	if e.state.Reported || e.state.Witnessed {
		r.hostLane(e.spec.Probe.Host()).hasten(e)
	}
}

// probe tries a value and calls end in the loop with what was found. of is the
// token at work that it is for, nil if there is none.
func (r *Refresher) probe(spec Spec, v Value, u urgency, of *entry, end func(Finding)) {
	h := r.hostLane(spec.Probe.Host())
	timeout := spec.ProbeTimeout
	if timeout == 0 {
		timeout = DefaultProbeTimeout
	}
	start := func() {
		r.spawn(func() func() {
			ctx, cancel := context.WithTimeout(r.work, timeout)
			defer cancel()
			before := r.clock.moment()
			finding := spec.Probe.Probe(ctx, v)
			after := r.clock.moment()
			return func() {
				h.running--
				r.observe(finding.ServerTime, before, after)
				if r.opt.OnProbe != nil {
					r.opt.OnProbe(after.elapsed - before.elapsed)
				}
				end(finding)
			}
		})
	}
	h.waiting[u].push(waitingProbe{of, start})
	r.pumpHost(h, r.clock.Now())
}

func (r *Refresher) startProbe(e *entry, d Decision) {
	r.debug(e, "probing", "what", d.Do.String(), "code", d.Code, "reason", d.Reason)
	gen := e.gen
	if d.Do == ProbeCandidate {
		value, u := e.state.Held.Value, renewing
		switch e.state.Health(r.clock.Now()) {
		case Pending, Expired, Revoked:
			u = refusing
		}
		r.probe(e.spec, value, u, e, func(f Finding) {
			if !e.gone && e.gen == gen {
				r.candidateProbed(e, value, f)
			}
		})
		return
	}
	version, u := e.state.Published, refusing
	if d.Code == codeReprobe {
		u = scheduled
	}
	r.probe(e.spec, version.Value, u, e, func(f Finding) {
		if !e.gone && e.gen == gen {
			r.publishedProbed(e, version, f)
		}
	})
}

func (r *Refresher) candidateProbed(e *entry, value Value, f Finding) {
	now := r.clock.Now()
	e.probes[f.Verdict]++
	first := e.state.Held != nil && e.state.Held.Value == value && e.state.Held.Finding.Verdict == Unproven
	e.apply(r, CandidateProbed{Value: value, Finding: f}, now)
	if f.Verdict == Unknown {
		log := r.log(e).Debug
		if first {
			log = r.log(e).Warn
		}
		log("new value held back: the probe cannot tell", "verdict", f.Verdict.String(), "reason", f.Reason, "retry_in", until(later(now, e.state.probeAllowed(e.spec.Policy)), now), "expires_in", e.left(now))
		if first {
			r.finish(e, ResultHeld, f.Reason)
		}
	}
	r.advance(e)
}

func (r *Refresher) publishedProbed(e *entry, version *Version, f Finding) {
	now := r.clock.Now()
	e.probes[f.Verdict]++
	old := e.state
	e.apply(r, PublishedProbed{Version: version, Finding: f}, now)
	s := &e.state
	switch {
	case !s.DoubtSince.IsZero() && old.DoubtSince.IsZero():
		text := "the probe cannot tell whether the published value works; it stays served"
		if s.Proof.Verdict == RejectedToken {
			text = "the probe cannot tell whether the published value is still revoked; it stays so"
		}
		r.log(e).Warn(text, "verdict", f.Verdict.String(), "reason", f.Reason)
	case s.DoubtSince.IsZero() && !old.DoubtSince.IsZero() && f.Verdict == Accepted:
		r.log(e).Info("the probe can tell again", "verdict", f.Verdict.String(), "after", now.Sub(old.DoubtSince).Round(time.Second).String())
	case !s.SuspectSince.IsZero() && old.SuspectSince.IsZero():
		r.log(e).Warn("the published value was rejected once; it is probed again", "verdict", f.Verdict.String(), "reason", f.Reason, "in", confirmAfter.String())
	default:
		r.debug(e, "probed", "verdict", f.Verdict.String(), "reason", f.Reason)
	}
	if version == s.Published && (old.Proof.Verdict != s.Proof.Verdict || e.storeFailure != "") {
		// A restart must not serve what is known to be bad.
		r.save(e, *version, s.Proof, func(error) { r.advance(e) })
	}
	r.advance(e)
}
