package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"iam-token-refresher/refresher"
)

// source mints for one account with one key.
type source struct {
	w     *world
	inst  *instance
	token *token
	acct  *account
	key   int
	trial bool // not in force yet
	ended bool // replaced
}

func (s *source) Identity() string { return "account " + s.acct.name }

// Mint implements [refresher.Source].
func (s *source) Mint(ctx context.Context) (refresher.Minted, error) {
	w := s.w
	w.mu.Lock()
	call := int(w.bubble()) // what chance gives depends on the moment, not on the order within it
	w.sum.mints++
	w.happened(func() string { return fmt.Sprintf("%s: mint of %s begins", s.token.name, s.acct.name) }, "mint"+s.acct.name, s.key)
	w.checkMint(s)
	w.inst.minting++
	w.checkAtOnce()
	latency := between(w.chance("mint latency "+s.acct.name, call, s.key), 30*time.Millisecond, 600*time.Millisecond)
	if w.on("iam slow", s.acct.name) != nil {
		latency = between(w.chance("mint latency "+s.acct.name, call, s.key), 2*time.Second, 28*time.Second)
	}
	hang := w.on("iam hangs", s.acct.name) != nil
	x := w.exchange(s.inst)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		s.inst.minting--
		w.mu.Unlock()
	}()
	if hang {
		latency = time.Hour
	}
	if err := wait(ctx, latency/2); err != nil {
		return refresher.Minted{}, err
	}
	w.mu.Lock()
	m, v, failure := s.answer()
	dates := w.chance("mint date "+s.acct.name, call, s.key) < 0.5
	if dates {
		m.ServerTime = x.answered()
	}
	w.mu.Unlock()
	if err := wait(ctx, latency/2); err != nil {
		return refresher.Minted{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	x.ended()
	if failure != nil {
		failure.ServerTime = m.ServerTime
		if failure.RetryAfter > 0 && !s.trial {
			s.token.asked(w, failure.RetryAfter, !w.swapping)
		}
		w.happened(func() string { return fmt.Sprintf("%s: mint failed: %v", s.token.name, failure.Err) }, "minted"+s.acct.name, s.key)
		return refresher.Minted{}, failure
	}
	if v != nil {
		t := s.token
		if t.prev != nil && !v.expires.After(t.prev.ExpiresAt) && !w.True().Before(t.prev.ExpiresAt.Add(-third(t.prev))) {
			w.touch(t, capWait, capWait, "the same value or a shorter one again")
		}
		// The daemon may take the time to be another, and the life for shorter.
		now := w.True()
		if taken := s.inst.r.Now(); taken.After(now) {
			now = taken
		}
		t.paces = append(t.paces, paced{w.bubble(), m.ExpiresAt.Sub(now) - time.Minute})
		t.mintFrom = 0
		w.happened(func() string {
			return fmt.Sprintf("%s: mint gave %s, expires %s", s.token.name, v.name, m.ExpiresAt.Format("01-02 15:04:05"))
		}, "minted"+s.acct.name, s.key)
	}
	return m, nil
}

// answer is what IAM says now; w is locked.
func (s *source) answer() (refresher.Minted, *value, *refresher.Failure) {
	w, a := s.w, s.acct
	if f := w.on("iam away", a.name); f != nil {
		return refresher.Minted{}, nil, &refresher.Failure{Err: errors.New("iam is away"), RetryAfter: f.d}
	}
	if !a.keys[s.key] {
		return refresher.Minted{}, nil, &refresher.Failure{Err: errors.New("the key is unknown"), Permanent: true}
	}
	if w.on("iam gives nothing", a.name) != nil {
		return refresher.Minted{Type: refresher.TypeIAM}, nil, nil
	}
	now := w.True()
	if c := a.again(now); c != nil {
		return refresher.Minted{Value: refresher.NewValue(c.name), Type: refresher.TypeIAM, ExpiresAt: c.expires}, c, nil
	}
	a.count++
	life := a.lifetime
	if f := w.on("iam gives short lives", a.name); f != nil {
		life = max(min(life, 10*time.Minute), time.Duration(f.p*float64(life)))
	}
	v := &value{
		name: fmt.Sprintf("%s-%d", a.name, a.count), acct: a, at: now, expires: now.Add(life).Truncate(time.Second),
		dead: w.on("iam gives dead values", a.name) != nil, mintedAt: w.bubble(),
	}
	if w.on("iam gives expired values", a.name) != nil {
		v.expires = now.Add(-time.Minute)
	}
	w.values[v.name] = v
	a.current = v
	return refresher.Minted{Value: refresher.NewValue(v.name), Type: refresher.TypeIAM, ExpiresAt: v.expires}, v, nil
}

// again is the value that the account gives once more, or nil; the world is locked.
func (a *account) again(now time.Time) *value {
	reissue := a.reissue
	if a.w.on("iam gives the same", a.name) != nil {
		reissue = 0.99
	}
	c := a.current
	if c == nil || c.revoked || c.dead || !now.Before(c.at.Add(time.Duration(reissue*float64(c.expires.Sub(c.at))))) {
		return nil
	}
	return c
}

// asked: IAM wants to be left alone; w is locked.
func (t *token) asked(w *world, d time.Duration, asker bool) {
	d, latest := min(d, time.Hour), min(d+d/2, time.Hour)
	if t.prev != nil {
		deadline := t.prev.ExpiresAt.Add(-third(t.prev))
		now := w.True()
		if deadline.Before(now) {
			deadline = now
		}
		urgent := deadline.Sub(now) + 5*time.Minute
		d, latest = min(d, urgent), min(latest, urgent)
	}
	if asker {
		t.mintFrom = w.bubble() + d - d/50 - 32*time.Second // the clock may be wrong
	}
	w.touch(t, latest+capWait, latest+capWait, "Retry-After")
}

// third is before_expiry as the simulated configuration has it.
func third(v *refresher.Version) time.Duration { return v.ExpiresAt.Sub(v.MintedAt) / 3 }

// wait is for d, or for ctx's end.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// probe asks the one API whether it takes a value.
type probe struct {
	w      *world
	inst   *instance
	token  *token
	target string
}

const host = "tracker"

func (p *probe) Target() string { return p.target }
func (p *probe) Host() string   { return host }

// Probe implements [refresher.Probe].
func (p *probe) Probe(ctx context.Context, val refresher.Value) refresher.Finding {
	w := p.w
	w.mu.Lock()
	call := int(w.bubble())
	w.sum.probes++
	v := w.values[val.Reveal()]
	w.happened(func() string { return fmt.Sprintf("%s: probe of %s begins", p.token.name, v.name) }, "probe"+p.token.name+v.name, 0)
	w.checkProbe(p)
	latency := between(w.chance("probe latency "+p.token.name+v.name, call), 10*time.Millisecond, 400*time.Millisecond)
	if w.on("tracker slow", host) != nil {
		latency = between(w.chance("probe latency "+p.token.name+v.name, call), time.Second, 9*time.Second)
	}
	if w.on("tracker hangs", host) != nil {
		latency = time.Hour
	}
	x := w.exchange(p.inst)
	epoch := p.token.epoch
	w.mu.Unlock()
	unknown := refresher.Finding{Verdict: refresher.Unknown, Reason: "timeout"}
	if wait(ctx, latency/2) != nil {
		return p.found(v, unknown, epoch)
	}
	w.mu.Lock()
	f := p.judge(v, call)
	if w.on("tracker without dates", host) == nil {
		f.ServerTime = x.answered()
	}
	w.mu.Unlock()
	if wait(ctx, latency/2) != nil {
		return p.found(v, unknown, epoch)
	}
	w.mu.Lock()
	x.ended()
	w.mu.Unlock()
	return p.found(v, f, epoch)
}

// judge is what the API says; w is locked.
func (p *probe) judge(v *value, call int) refresher.Finding {
	w := p.w
	if w.on("tracker away", host) != nil {
		return refresher.Finding{Verdict: refresher.Unknown, Reason: "503"}
	}
	if f := w.on("tracker throttles", host); f != nil {
		return refresher.Finding{Verdict: refresher.Unknown, Reason: "429", Throttled: true, RetryAfter: f.d}
	}
	roll := w.chance("false "+p.token.name+v.name, call)
	if f := w.on("tracker false 401", host); f != nil && roll < f.p {
		return refresher.Finding{Verdict: refresher.RejectedToken, Reason: "401"}
	}
	if f := w.on("tracker false 403", host); f != nil && roll < f.p {
		return refresher.Finding{Verdict: refresher.RejectedAccess, Reason: "403"}
	}
	switch {
	case v.dead, v.revoked, !w.True().Before(v.expires):
		return refresher.Finding{Verdict: refresher.RejectedToken, Reason: "401"}
	case v.acct.noAccess:
		return refresher.Finding{Verdict: refresher.RejectedAccess, Reason: "403"}
	}
	return refresher.Finding{Verdict: refresher.Accepted, Reason: "200"}
}

// found notes what the daemon is told.
func (p *probe) found(v *value, f refresher.Finding, epoch int) refresher.Finding {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.happened(func() string {
		return fmt.Sprintf("%s: probe of %s: %s %s", p.token.name, v.name, f.Verdict, f.Reason)
	}, "probed"+p.token.name+v.name, int(f.Verdict))
	if p.inst != w.inst || epoch != p.token.epoch {
		return f // nobody hears it
	}
	k := p.token.verdicts(v)
	k.last, k.at = f.Verdict, w.bubble()
	switch prev := p.token.prev; {
	case prev != nil && prev.Value.Reveal() == v.name: // no candidate
	case f.Verdict != refresher.Unknown:
		p.token.unproven = nil
	case p.token.unproven == nil:
		p.token.unproven = v
	}
	switch f.Verdict {
	case refresher.Accepted, refresher.RejectedAccess:
		k.rejections, k.witnessed = 0, false
	case refresher.RejectedToken:
		k.rejections++
	}
	if f.RetryAfter > 0 {
		d := min(f.RetryAfter+f.RetryAfter/2, time.Hour)
		w.touch(p.token, d+capWait, d+capWait, "Retry-After of the probe")
	}
	return f
}
