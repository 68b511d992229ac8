package simulation

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// inventProcess plans what people do to the program.
func (w *world) inventProcess(rng *rand.Rand, times func(float64, func(time.Duration))) {
	down := func() time.Duration { return between(rng.Float64(), 100*time.Millisecond, 10*time.Hour) }
	times(6, func(at time.Duration) {
		d := down()
		w.plan(at, func() { w.kill(d) })
	})
	times(14, func(at time.Duration) { // at the n-th event from then
		n := 1 + rng.IntN(12)
		w.plan(at, w.locked(func() {
			if w.killIn == 0 {
				w.killIn = n
			}
		}))
	})
	times(3, func(at time.Duration) {
		d := down()
		w.plan(at, func() {
			w.mu.Lock()
			clear(w.store.saved)
			w.notef("the state is lost")
			w.mu.Unlock()
			w.kill(d)
		})
	})
	names := make([]string, len(w.tokens))
	for i, t := range w.tokens {
		names[i] = t.name
	}
	pick := func() string { return names[rng.IntN(len(names))] }
	swap := func(n float64, what string, change func(wi *wish)) {
		times(n, func(at time.Duration) {
			name := pick()
			w.plan(at, func() {
				w.swap(func(c config) config {
					if wi := c.find(name); wi != nil {
						change(wi)
					}
					return c
				}, what+" "+name)
			})
		})
	}
	swap(3, "sinks changed", func(wi *wish) {
		if len(wi.files) > 1 {
			wi.files = wi.files[:1]
		} else {
			wi.files = []string{"file:" + wi.token + ".0", "file:" + wi.token + ".1"}
		}
	})
	swap(3, "another account", func(wi *wish) {
		wi.acct = (wi.acct + 1) % len(w.accounts)
		wi.key = w.newKey(w.accounts[wi.acct])
	})
	swap(3, "another organization", func(wi *wish) { wi.target += "'" })
	swap(3, "a bad key", func(wi *wish) { wi.key = -1 })
	swap(4, "a new key", func(wi *wish) { wi.key = w.newKey(w.accounts[wi.acct]) })
	swap(2, "nothing changed", func(*wish) {})
	times(2, func(at time.Duration) { // one token taken out, and put back later
		name := pick()
		var was wish
		w.plan(at, func() {
			w.swap(func(c config) config {
				if wi := c.find(name); wi != nil && len(c) > 1 {
					was = *wi
					return slices.DeleteFunc(c, func(wi wish) bool { return wi.token == name })
				}
				return c
			}, "without "+name)
		})
		w.plan(at+between(rng.Float64(), time.Second, 10*time.Hour), func() {
			w.swap(func(c config) config {
				if c.find(name) == nil && was.token != "" {
					c = append(c, was)
				}
				return c
			}, "again with "+name)
		})
	})
	times(2, func(at time.Duration) { // keys are taken away, and a new one is given later
		a := w.accounts[rng.IntN(len(w.accounts))]
		w.instant(at, "the keys are deleted of "+a.name, func() { clear(a.keys) })
		for n := range 40 { // until it works
			w.plan(at+between(rng.Float64(), time.Minute, 10*time.Hour)+time.Duration(n)*time.Hour, func() { w.newKeys(a) })
		}
	})
	// In the end all have keys.
	for n := range 30 {
		for _, a := range w.accounts {
			w.plan(duration-lastCalm+time.Duration(n+1)*time.Minute, func() { w.newKeys(a) })
		}
	}
	times(10, func(at time.Duration) {
		name := pick()
		w.plan(at, func() { w.person(name, false) })
	})
	times(10, func(at time.Duration) {
		name, n := pick(), 1+rng.IntN(20)
		for k := range n {
			w.plan(at+time.Duration(k)*3*time.Second, func() { w.person(name, true) })
		}
	})
}

// newKey makes a key; w is locked.
func (w *world) newKey(a *account) int {
	w.key++
	a.keys[w.key] = true
	return w.key
}

// newKeys gives those tokens of an account new keys that have none that works.
func (w *world) newKeys(a *account) {
	w.mu.Lock()
	need := false
	for _, wi := range w.cfg {
		need = need || w.accounts[wi.acct] == a && !a.keys[wi.key]
	}
	w.mu.Unlock()
	if !need {
		return
	}
	w.swap(func(c config) config {
		for i := range c {
			if w.accounts[c[i].acct] == a && !a.keys[c[i].key] {
				c[i].key = w.newKey(a)
			}
		}
		return c
	}, "new keys of "+a.name)
}

// kill ends the process, which starts again after a while.
func (w *world) kill(down time.Duration) {
	w.mu.Lock()
	up := w.inst != nil
	w.mu.Unlock()
	if !up {
		return
	}
	w.stop()
	w.mu.Lock()
	w.sum.faults++
	w.plan(w.bubble()+down, w.start)
	w.mu.Unlock()
}

// person asks for a refresh, or says that a value gave a 401, be it true or not.
func (w *world) person(name string, report bool) {
	w.mu.Lock()
	i, t := w.inst, w.token(name)
	if i == nil || i.dead || t.prev == nil || w.cfg.find(name) == nil {
		w.mu.Unlock()
		return
	}
	v := *t.prev
	witness := report && w.chance("witness "+name, int(w.bubble())) < 0.5
	w.complaint(t, w.values[v.Value.Reveal()], witness)
	w.notef("%s: somebody asks or reports (%t)", name, report)
	w.mu.Unlock()
	switch {
	case witness:
		i.r.Witness(context.Background(), name, v.Lineage, v.N)
	case report:
		i.r.Report(name, v.Lineage, v.N)
	default:
		i.r.Request(name)
	}
}
