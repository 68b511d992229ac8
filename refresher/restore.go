package refresher

import (
	"context"
	"sync/atomic"
	"time"
)

// loaded is what a [Store] has of a token.
type loaded struct {
	version Version
	finding Finding
	ok      bool
	err     error
}

// start takes up what earlier runs saved.
func (r *Refresher) start(specs []Spec) {
	saved, hang := r.loadAll(specs)
	if r.work.Err() != nil {
		return
	}
	if hang > 0 {
		r.opt.Log.Error("saved state cannot be read, starting without it", "tokens", hang, "error", errHangs)
	}
	now := r.clock.Now()
	tokens := make(map[string]*entry, len(specs))
	for i, spec := range specs {
		e := newEntry(spec)
		tokens[spec.Token] = e
		r.entries = append(r.entries, e)
		if spec.Required {
			r.unready++
		}
		r.restore(e, saved[i], now)
	}
	r.tokens.Store(&tokens)
	for _, e := range r.entries {
		r.advance(e)
	}
	r.checkReady()
}

// loadAll returns what was saved of each token. A disk that gives nothing for as
// long as one save may take hangs: how many were not read by then is hang, and
// there is nothing of them. The loop does not turn before.
func (r *Refresher) loadAll(specs []Spec) (saved []loaded, hang int) {
	saved = make([]loaded, len(specs))
	if r.opt.Store == nil {
		return saved, 0
	}
	ctx, cancel := context.WithCancel(r.work)
	defer cancel()
	var next atomic.Int64
	read := make([]loaded, len(specs)) // by workers, of whom one may come back late
	ended := make(chan int, len(specs))
	for range min(diskWorkers, len(specs)) {
		r.workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(specs) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				l := &read[i]
				l.version, l.finding, l.ok, l.err = r.opt.Store.Load(specs[i].Token, specs[i].fingerprint())
				ended <- i
			}
		})
	}
	patience := time.NewTimer(publishTimeout)
	defer patience.Stop()
	for n := range specs {
		select {
		case i := <-ended:
			saved[i] = read[i]
			patience.Reset(publishTimeout)
		case <-patience.C:
			return saved, len(specs) - n
		case <-ctx.Done():
			return saved, len(specs) - n
		}
	}
	return saved, 0
}

// restore takes up what was saved of e.
func (r *Refresher) restore(e *entry, saved loaded, now time.Time) {
	switch {
	case saved.err != nil:
		r.log(e).Error("saved state cannot be used, starting without it", "error", saved.err)
	case saved.ok:
		v, finding := saved.version, saved.finding
		e.apply(r, Restored{Version: &v, Finding: finding}, now)
		e.durable = v.Lineage
		text := "restored"
		if e.state.Published == nil {
			text = "saved value is not taken up as it is"
		}
		r.log(e).Info(text, "version", v.N, "expires_in", until(v.ExpiresAt, now), "verdict", finding.Verdict.String())
	}
}
