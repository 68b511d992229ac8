package simulation

import (
	"context"
	"time"

	"iam-token-refresher/refresher"
)

// capWait is within what everything is right again after the last fault: the
// longest wait between attempts is 10 minutes (the same value again), a mint
// may take 30 s, a probe 10 s, saving and publishing 10 s each.
const capWait = 10*time.Minute + 70*time.Second

// capPublish is how long after its publication a version must be everywhere.
const capPublish = 15 * time.Second

// clockTolerance is how wrong the daemon's time may be without being corrected.
const clockTolerance = 30 * time.Second

// checkMint: promise 11 and 9, as a mint begins. w is locked.
func (w *world) checkMint(s *source) {
	t, now := s.token, w.bubble()
	if s.ended && !w.swapping {
		w.violated("9", "%s: a source that was replaced or refused is asked", t.name)
	}
	if w.swapping || s.inst != w.inst { // one of them is a trial's, which somebody asked for
		return
	}
	t.mints = append(recent(t.mints, now), now)
	forgiven := len(recent(t.forgiven, now))
	if w.calm(time.Hour) && len(t.mints) > 5+perHour(450*time.Second, t.shortest(now)/96)+forgiven {
		w.violated("11", "%s: %d mints within an hour, %d asked for by people: %v", t.name, len(t.mints), forgiven, t.mints)
	}
	if now < t.mintFrom-time.Second && forgiven == 0 && w.calm(time.Hour) {
		w.violated("11", "%s: minted %s before IAM wants to be asked again", t.name, t.mintFrom-now)
	}
}

// checkAtOnce: promise 11. w is locked.
func (w *world) checkAtOnce() {
	if w.inst.minting > mintsAtOnce {
		w.violated("11", "%d mints at once", w.inst.minting)
	}
}

// checkProbe: promise 11, as a probe begins. w is locked.
func (w *world) checkProbe(p *probe) {
	t, now := p.token, w.bubble()
	if p.inst != w.inst || w.swapping {
		return
	}
	t.probes = append(recent(t.probes, now), now)
	forgiven := 2 * len(recent(t.forgiven, now))
	if w.calm(time.Hour) && len(t.probes) > 8+perHour(225*time.Second, t.shortest(now)/192)+forgiven {
		w.violated("11", "%s: %d probes within an hour, %d for reports: %v", t.name, len(t.probes), forgiven, t.probes)
	}
}

// recent drops what is more than an hour ago.
func recent(times []time.Duration, now time.Duration) []time.Duration {
	for len(times) > 0 && times[0] <= now-time.Hour {
		times = times[1:]
	}
	return times
}

// calm: for so long nobody touched a clock, and no process began: both give a
// new budget.
func (w *world) calm(d time.Duration) bool {
	now := w.bubble()
	return now-max(w.clockChanged, w.clockNoticed) > d && w.inst != nil && now-w.inst.at > d
}

// clockRight: the clocks are, and were when a wait of seconds began. A clock
// that is wrong by half a minute may be corrected in the middle of it.
func (w *world) clockRight() bool {
	wall, _ := w.behind()
	return wall.Abs() < 20*time.Second && w.rate == 1 && w.bubble()-max(w.clockChanged, w.clockNoticed) > time.Minute
}

// perHour is how many calls a pace allows in an hour after the burst.
func perHour(normal, short time.Duration) int {
	if short > 0 {
		normal = min(normal, short)
	}
	return int(time.Hour / normal)
}

// shortest is the shortest life of a value that the pace may be of.
func (t *token) shortest(now time.Duration) time.Duration {
	for len(t.paces) > 1 && t.paces[1].at < now-13*time.Hour {
		t.paces = t.paces[1:]
	}
	life := time.Duration(0)
	for _, p := range t.paces {
		if life == 0 || p.life < life {
			life = max(p.life, time.Second)
		}
	}
	return life
}

// checkPublish: a sink is given a version. w is locked.
func (w *world) checkPublish(t *token, v refresher.Version, sink string, closed bool) {
	if w.inst == nil || w.inst.dead {
		return
	}
	if closed {
		w.violated("9", "%s: written after it was let go", sink)
	}
	late, _ := w.allowed()
	val := w.values[v.Value.Reveal()]
	switch {
	case val == nil:
		w.violated("1", "%s: an empty or foreign value", sink)
	case w.True().Sub(val.expires) > late:
		w.violated("1", "%s is given %s, %s, which expired %s ago", sink, v.ETag(), val.name, w.True().Sub(val.expires))
	case t.verdicts(val).rejections > 1:
		w.violated("1", "%s is given %s, %s, which was rejected", sink, v.ETag(), val.name)
	}
}

// checkStatus: after every event of the loop, in the loop.
func (w *world) checkStatus(i *instance, st refresher.Status) {
	now := i.r.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if i != w.inst || i.dead || st.Version == nil {
		return
	}
	t := w.token(st.Token)
	if t.prev != nil && *t.prev == *st.Version {
		return
	}
	w.checkVersion(t, st, now)
	t.prev, t.prevAt = st.Version, w.bubble()
	w.sum.renewals++
	w.plan(w.bubble()+max(0, st.Version.ExpiresAt.Sub(w.True()))+time.Millisecond, func() {})
}

// checkVersion: promises 1, 5, 8, of a version that readers see first. w is locked.
func (w *world) checkVersion(t *token, st refresher.Status, now time.Time) {
	v, prev := st.Version, t.prev
	val := w.values[v.Value.Reveal()]
	if val == nil {
		w.violated("1", "%s: %s is an empty or foreign value", t.name, v.ETag())
		return
	}
	w.notef("%s: %s is %s, %s, until %s", t.name, v.ETag()[12:], val.name, st.Health, v.ExpiresAt.Format("01-02 15:04:05"))
	k, restored := t.verdicts(val), t.base != nil && *t.base == *v
	wish := w.cfg.find(t.name)
	late, _ := w.allowed()
	if over := w.True().Sub(val.expires); over > late && !restored {
		w.violated("1", "%s: %s is published %s after its end", t.name, val.name, over)
	}
	// What was decided in the seconds before was decided by the clock of then,
	// and by what the last answer had said of it, which need not be exact.
	inside := prev == nil || !now.Add(clockTolerance).Before(prev.ExpiresAt.Add(-third(prev))) || w.bubble()-w.clockChanged < capPublish
	var old *known
	if prev != nil {
		old = t.verdicts(w.values[prev.Value.Reveal()])
	}
	if wish.probed && !(restored && st.Health == refresher.Unchecked) {
		switch k.last {
		case refresher.RejectedToken:
			w.violated("1", "%s: %s is published although it was rejected", t.name, val.name)
		case refresher.RejectedAccess:
			if prev == nil || wish.strict || !inside || old.last != refresher.RejectedAccess && !prev.ExpiredAt(now) {
				w.violated("1", "%s: %s is published although it has no access", t.name, val.name)
			}
		case refresher.Unknown, refresher.Unproven:
			if wish.strict || !inside && !old.refused() {
				w.violated("1", "%s: %s is published unverified", t.name, val.name)
			}
			if k.rejections > 0 {
				w.violated("1", "%s: %s is published unverified although it was rejected before", t.name, val.name)
			}
			grace := min(refresher.DefaultGrace, val.expires.Sub(val.at)/4)
			if prev != nil {
				grace = min(grace, max(0, prev.ExpiresAt.Sub(val.at))/5)
			}
			since := val
			if t.unproven != nil {
				since = t.unproven
			}
			if held := w.bubble() - since.mintedAt; held < grace-3*time.Second && w.clockRight() || k.last == refresher.Unproven {
				w.violated("1", "%s: %s is published without a probe, or after %s", t.name, val.name, held)
			}
		}
	}
	t.unproven = nil
	in := w.store.saved[t.name]
	isSaved := in.v == *v
	storeBad := w.on("store fails", "") != nil || w.on("store hangs", "") != nil || w.storeBad > 0 && w.bubble()-w.storeBad < 15*time.Second
	// What cannot be saved begins a lineage: a restart would use its number again.
	begins := v.N == 1 && !isSaved && storeBad
	if prev != nil {
		was := w.values[prev.Value.Reveal()]
		switch {
		case v.Value == prev.Value:
			w.violated("5", "%s: the same value again, %s, after %s", t.name, v.ETag(), prev.ETag())
		case !(v.Lineage == prev.Lineage && v.N == prev.N+1) && !begins:
			w.violated("1", "%s: %s after %s", t.name, v.ETag(), prev.ETag())
		case !v.ExpiresAt.After(prev.ExpiresAt) && !old.refused() && was.acct == val.acct && !prev.ExpiredAt(now):
			w.violated("1", "%s: %s ends before %s, which was not rejected", t.name, val.name, was.name)
		}
	} else {
		switch b := t.base; {
		case b == nil && v.N != 1:
			w.violated("8", "%s: a cold start begins with %s", t.name, v.ETag())
		case b != nil && (v.Lineage != b.Lineage || v.N != b.N+1 && *v != *b) && !begins:
			w.violated("8", "%s: %s after %s of the state", t.name, v.ETag(), b.ETag())
		}
	}
	if !isSaved && !storeBad {
		w.violated("8", "%s: %s is shown and not saved", t.name, v.ETag())
	}
	id := t.name + v.ETag()
	if was, ok := w.etags[id]; ok && was != val.name {
		w.violated("8", "%s: %s was %s and is %s", t.name, v.ETag(), was, val.name)
	}
	w.etags[id] = val.name
}

// restorable is what the state holds that must be served at once. w is locked.
func (w *world) restorable() map[string]refresher.Version {
	expect := map[string]refresher.Version{}
	for _, p := range w.inst.parts {
		t := p.source.token
		t.base = nil
		x, ok := w.store.saved[t.name]
		fingerprint := p.source.Identity() + " | " + p.probe.Target()
		if !p.wish.probed {
			fingerprint = p.source.Identity() + " | unproven"
		}
		if !ok || x.fingerprint != fingerprint {
			continue
		}
		t.base = &x.v
		good := x.f.Verdict == refresher.Accepted || x.f.Verdict == refresher.Unproven && !p.wish.probed
		if good && !x.v.ExpiredAt(w.Now()) {
			expect[t.name] = x.v
		}
	}
	return expect
}

// checkRestored: promise 8, as soon as the program runs.
func (w *world) checkRestored(i *instance, expect map[string]refresher.Version) {
	for name, v := range expect {
		st, _ := i.r.Snapshot(name)
		w.mu.Lock()
		if !i.dead && (st.Version == nil || *st.Version != v || !st.Servable(w.Now())) {
			w.violated("8", "%s: %s is not served at once after a restart", name, v.ETag())
		}
		w.mu.Unlock()
	}
}

// look is a moment at which readers read and everything is checked.
func (w *world) look() {
	w.mu.Lock()
	i := w.inst
	w.lostTime()
	w.lookedAt = w.bubble()
	if i == nil || i.dead {
		for _, t := range w.tokens {
			t.down = "the program does not run"
		}
		w.mu.Unlock()
		return
	}
	parts := i.parts
	w.mu.Unlock()
	now := i.r.Now()
	ready := false
	select {
	case <-i.r.Ready():
		ready = true
	default:
	}
	for _, p := range parts {
		st, ok := i.r.Snapshot(p.wish.token)
		v, why := p.socket.read(st, ok, now)
		w.mu.Lock()
		w.sum.reads++
		w.checkRead(p, st, v, why)
		w.checkFresh(p, st, v, why)
		w.checkRenewed(p, st)
		w.checkReady(i, p, ready)
		p.source.token.down = why
		val := (*value)(nil)
		if v != nil {
			val = w.values[v.Value.Reveal()]
		}
		report := val != nil && val.revoked && w.chance("reader reports", int(w.bubble())) < 0.3
		witness := report && w.chance("through us", int(w.bubble())) < 0.5
		if report {
			w.complaint(p.source.token, val, witness)
		}
		w.mu.Unlock()
		switch {
		case witness:
			i.r.Witness(context.Background(), p.wish.token, v.Lineage, v.N)
		case report:
			i.r.Report(p.wish.token, v.Lineage, v.N)
		}
	}
	w.mu.Lock()
	i.ready = i.ready || ready
	w.checkClock(now)
	w.mu.Unlock()
}

// complaint notes that a reader was refused, or says so. w is locked.
func (w *world) complaint(t *token, v *value, witnessed bool) {
	t.forgiven = append(t.forgiven, w.bubble())
	if v != nil && witnessed {
		t.verdicts(v).witnessed = true
	}
}

// lostTime counts for how long readers got nothing, and why. w is locked.
func (w *world) lostTime() {
	d := w.bubble() - w.lookedAt
	for _, t := range w.tokens {
		if t.down == "" || w.cfg.find(t.name) == nil {
			continue
		}
		why := t.down
		if t.cause != "" && t.down != "the program does not run" {
			why += " after " + t.cause
		}
		w.sum.without[why] += d
	}
}

// checkRead: no reader of a socket gets an expired value, ever; nor one that
// is known to be bad. Nor does it get none while there is a good one.
func (w *world) checkRead(p *part, st refresher.Status, v *refresher.Version, why string) {
	t := p.source.token
	late, early := w.allowed()
	if v == nil {
		if st.Version == nil {
			return
		}
		val := w.values[st.Version.Value.Reveal()]
		if t.verdicts(val).rejections == 0 && val.expires.Sub(w.True()) > early {
			w.violated("8", "%s: readers get nothing (%s) although %s is good for %s", t.name, why, val.name, val.expires.Sub(w.True()))
		}
		return
	}
	val := w.values[v.Value.Reveal()]
	if over := w.True().Sub(val.expires); over > late {
		w.violated("3", "%s: a reader gets %s %s after its end, of which %s could not be known", t.name, val.name, over, late)
	}
	if k := t.verdicts(val); k.rejections > 1 {
		w.violated("4", "%s: a reader gets %s, which was rejected twice", t.name, val.name)
	}
}

// checkFresh: when nothing was wrong for a while, everything is right.
func (w *world) checkFresh(p *part, st refresher.Status, v *refresher.Version, why string) {
	t, now := p.source.token, w.bubble()
	if now <= t.freshBy {
		return
	}
	switch {
	case v == nil:
		w.violated("2", "%s: readers get nothing (%s) although nothing is wrong since %s before", t.name, why, t.cause)
		return
	case st.Health != refresher.Fresh:
		w.violated("2", "%s is %s although nothing is wrong since %s before", t.name, st.Health, t.cause)
		return
	case st.Failures > 0:
		w.violated("2", "%s: %d failures although nothing is wrong since %s before", t.name, st.Failures, t.cause)
		return
	}
	val := w.values[v.Value.Reveal()]
	if p.wish.probed && (val.dead || val.revoked) {
		w.violated("4", "%s: %s does not work, which nobody noticed since %s before", t.name, val.name, t.cause)
	}
	for _, f := range p.files {
		if !f.listed || now <= f.freshBy || now <= t.prevAt+capPublish {
			continue
		}
		if f.stormAt == v.N {
			continue
		}
		if f.holds == nil || *f.holds != *st.Version || f.spoiled {
			w.violated("7", "%s does not hold %s although nothing is wrong", f.id, st.Version.ETag())
		}
	}
}

// checkRenewed: within the time that one attempt may wait after the deadline a
// value is replaced, if it can be. So no file holds an expired one.
func (w *world) checkRenewed(p *part, st refresher.Status) {
	t := p.source.token
	if st.Version == nil || w.bubble() <= t.renewBy {
		return
	}
	deadline := st.Version.ExpiresAt.Add(-third(st.Version))
	if over := w.True().Sub(deadline); over > capWait {
		w.violated("2", "%s: %s after its deadline and with nothing wrong %s is not replaced", t.name, over, st.Version.ETag())
	}
}

// checkReady: promise 10.
func (w *world) checkReady(i *instance, p *part, ready bool) {
	if !ready || i.ready {
		return
	}
	if p.socket.held == nil && !p.socket.later {
		w.violated("10", "%s: ready before it was published", p.wish.token)
	}
	for _, f := range p.files {
		if f.first == nil && !f.later {
			w.violated("10", "%s: ready before it was written", f.id)
		}
	}
}

// checkClock: promise 3.
func (w *world) checkClock(now time.Time) {
	late, early := w.allowed()
	if d := w.True().Sub(now); d > late || -d > early {
		w.violated("3", "the time is taken to be %s behind true time; %s behind and %s ahead could not be known", d, late, early)
	}
}
