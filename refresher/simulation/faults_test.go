package simulation

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// agenda is what will happen, by bubble time.
type agenda struct {
	list []entry
	n    int
}

type entry struct {
	at time.Duration
	n  int
	do func()
}

func (a *agenda) Len() int { return len(a.list) }
func (a *agenda) Less(i, j int) bool {
	return a.list[i].at < a.list[j].at || a.list[i].at == a.list[j].at && a.list[i].n < a.list[j].n
}
func (a *agenda) Swap(i, j int) { a.list[i], a.list[j] = a.list[j], a.list[i] }
func (a *agenda) Push(x any)    { a.list = append(a.list, x.(entry)) }
func (a *agenda) Pop() any {
	e := a.list[len(a.list)-1]
	a.list = a.list[:len(a.list)-1]
	return e
}

// plan has something happen later; w is locked.
func (w *world) plan(at time.Duration, do func()) {
	w.agenda.n++
	heap.Push(&w.agenda, entry{at, w.agenda.n, do})
}

const (
	day      = 24 * time.Hour
	duration = 30 * day
	lastCalm = 6 * time.Hour // of the run: everything must be well in the end
)

// locked makes an entry of the agenda of what needs the lock.
func (w *world) locked(do func()) func() {
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	}
}

// invent plans everything that will go wrong. w is locked.
func (w *world) invent() {
	rng := rand.New(rand.NewPCG(w.seed, 1))
	// Some runs are calm, some a storm: what is rare is seen alone, too.
	intensity := []float64{0.2, 0.6, 1, 1, 2}[rng.IntN(5)]
	// times calls do at random times, n times on average.
	times := func(n float64, do func(at time.Duration)) {
		n *= intensity
		for n > 0 {
			if rng.Float64() < n {
				do(day/10 + time.Duration(rng.Float64()*float64(duration-lastCalm-day/10)))
			}
			n--
		}
	}
	lasting := func(n float64, kind, target string, low, high time.Duration, more func(*fault)) {
		times(n, func(at time.Duration) {
			f := &fault{kind: kind, target: target}
			if more != nil {
				more(f)
			}
			end := min(at+between(rng.Float64(), low, high), duration-lastCalm)
			w.plan(at, w.locked(func() {
				w.sum.faults++
				w.active = append(w.active, f)
				w.notef("fault: %s until %s", f, end)
			}))
			w.plan(end, w.locked(func() {
				w.active = slices.DeleteFunc(w.active, func(g *fault) bool { return g == f })
				w.notef("ended: %s", f)
			}))
		})
	}
	retryAfter := func(f *fault) {
		if rng.Float64() < 0.5 {
			f.d = between(rng.Float64(), time.Second, 3*time.Hour).Round(time.Second)
		}
	}
	part := func(f *fault) { f.p = []float64{1, 1, 0.5, 0.1}[rng.IntN(4)] }
	for _, a := range w.accounts {
		lasting(8, "iam away", a.name, time.Second, 20*time.Hour, retryAfter)
		lasting(4, "iam hangs", a.name, time.Second, 4*time.Hour, nil)
		lasting(5, "iam slow", a.name, time.Minute, 10*time.Hour, nil)
		lasting(4, "iam gives the same", a.name, time.Minute, 16*time.Hour, nil)
		lasting(2, "iam gives dead values", a.name, time.Minute, 2*time.Hour, nil)
		lasting(2, "iam gives nothing", a.name, time.Minute, 2*time.Hour, nil)
		lasting(1, "iam gives expired values", a.name, time.Minute, 2*time.Hour, nil)
		lasting(4, "iam gives short lives", a.name, time.Minute, 14*time.Hour, func(f *fault) { f.p = between2(rng.Float64(), 0.02, 0.8) })
		times(4, func(at time.Duration) { w.instant(at, "values revoked "+a.name, func() { w.revoke(a) }) })
		times(1.5, func(at time.Duration) {
			w.instant(at, "no access "+a.name, func() { a.noAccess = true })
			w.plan(at+between(rng.Float64(), time.Minute, 16*time.Hour), w.locked(func() { w.touchAccess(a); a.noAccess = false; w.notef("access again") }))
		})
	}
	lasting(8, "tracker away", host, time.Second, 20*time.Hour, nil)
	lasting(4, "tracker hangs", host, time.Second, 3*time.Hour, nil)
	lasting(4, "tracker slow", host, time.Minute, 10*time.Hour, nil)
	lasting(6, "tracker throttles", host, time.Minute, 6*time.Hour, retryAfter)
	lasting(4, "tracker false 401", host, time.Minute, 3*time.Hour, part)
	lasting(4, "tracker false 403", host, time.Minute, 14*time.Hour, part)
	lasting(2, "tracker without dates", host, time.Hour, 20*time.Hour, nil)
	lasting(5, "store fails", "", time.Second, 10*time.Hour, nil)
	lasting(3, "store hangs", "", time.Second, time.Hour, nil)
	for _, id := range sorted(w.files) {
		f := w.files[id]
		lasting(4, "file fails", id, time.Second, 20*time.Hour, nil)
		lasting(3, "file hangs", id, time.Second, 3*time.Hour, nil)
		times(8, func(at time.Duration) { w.plan(at, func() { w.disturb(f) }) })
		times(1, func(at time.Duration) {
			for n := range 7 {
				w.plan(at+time.Duration(n)*(time.Minute+time.Duration(rng.IntN(int(time.Second)))), func() { w.disturb(f) })
			}
		})
	}
	w.inventClocks(rng, times)
	w.inventProcess(rng, times)
}

func between2(roll, low, high float64) float64 { return low + roll*(high-low) }

func sorted(m map[string]*file) []string {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// instant plans something that is over at once; do runs locked.
func (w *world) instant(at time.Duration, what string, do func()) {
	w.plan(at, w.locked(func() {
		w.sum.faults++
		w.notef("%s", what)
		do()
	}))
}

func (w *world) inventClocks(rng *rand.Rand, times func(float64, func(time.Duration))) {
	changed := func(what string, d time.Duration, do func()) func() {
		return func() {
			w.mu.Lock()
			w.sum.faults++
			w.notef("clock: %s %s", what, d)
			w.clockChanged = w.bubble()
			w.touchAll(capWait, capWait, what)
			w.mu.Unlock()
			do()
		}
	}
	times(5, func(at time.Duration) {
		d := between(rng.Float64(), time.Second, 16*time.Hour)
		w.plan(at, changed("suspended", d, func() { w.suspend(d) }))
	})
	setRight := func(at time.Duration) { w.plan(at, changed("set right", 0, w.setRight)) }
	times(4, func(at time.Duration) {
		d := between(rng.Float64(), time.Second, 8*time.Hour)
		w.plan(at, changed("paused", d, func() { w.pause(d) }))
		setRight(at + between(rng.Float64(), time.Second, 8*time.Hour))
	})
	times(6, func(at time.Duration) {
		d := between(rng.Float64(), time.Second, 40*time.Hour)
		if rng.IntN(2) == 0 {
			d = -d
		}
		w.plan(at, changed("stepped", d, func() { w.step(d) }))
		if rng.Float64() < 0.8 {
			setRight(at + between(rng.Float64(), time.Second, 12*time.Hour))
		}
	})
	times(3, func(at time.Duration) {
		rate := 1 + []float64{-1, 1}[rng.IntN(2)]*between2(rng.Float64(), 0.00005, 0.01)
		w.plan(at, changed(fmt.Sprintf("runs at %.5f", rate), 0, func() { w.slew(rate) }))
		end := at + between(rng.Float64(), time.Hour, 20*time.Hour)
		w.plan(end, changed("runs right", 0, func() { w.slew(1) }))
		setRight(end + time.Second)
	})
	w.plan(duration-lastCalm, changed("runs right", 0, func() { w.slew(1) }))
	setRight(duration - lastCalm)
}

// revoke ends the values of an account, all or the newest.
func (w *world) revoke(a *account) {
	for _, v := range w.values {
		if v.acct == a {
			v.revoked = true
		}
	}
	w.touchAccess(a)
}

// touchAccess: the tokens of an account will hear of something at their next
// probe, or those without one at their next refresh.
func (w *world) touchAccess(a *account) {
	for _, t := range w.tokens {
		wish := w.cfg.find(t.name)
		if wish == nil || w.accounts[wish.acct] != a {
			continue
		}
		w.touchProbed(t, "revoked or no access")
	}
}

func (w *world) touchProbed(t *token, why string) {
	notice := 16 * time.Minute
	if wish := w.cfg.find(t.name); wish != nil && !wish.probed || t.throttledAt > 0 && w.bubble()-t.throttledAt < 2*time.Hour {
		notice = 75 * time.Minute
	}
	w.touch(t, notice+capWait, capWait, why)
}

// touchFaults notes whom the active faults trouble. w is locked.
func (w *world) touchFaults() {
	for _, f := range w.active {
		if f.kind == "store fails" || f.kind == "store hangs" {
			w.storeBad = w.bubble()
			continue // blocks nothing
		}
		if file, ok := w.files[f.target]; ok {
			file.freshBy = max(file.freshBy, w.bubble()+capWait)
			continue
		}
		for _, t := range w.tokens {
			wish := w.cfg.find(t.name)
			if wish == nil {
				continue
			}
			switch {
			case f.kind == "iam gives dead values" && f.target == w.accounts[wish.acct].name:
				w.touchProbed(t, f.kind)
			case f.target == w.accounts[wish.acct].name:
				w.touch(t, capWait, capWait, f.kind)
			case f.target == host && !wish.probed:
			case f.kind == "tracker throttles":
				t.throttledAt = w.bubble()
				w.touch(t, 75*time.Minute+capWait, capWait, f.kind)
			case f.kind == "tracker false 401", f.kind == "tracker false 403":
				w.touchProbed(t, f.kind)
			case f.target == host && f.kind != "tracker without dates":
				w.touch(t, capWait, capWait, f.kind)
			}
		}
	}
	for _, t := range w.tokens {
		wish := w.cfg.find(t.name)
		if wish == nil || t.prev == nil || w.True().Before(t.prev.ExpiresAt.Add(-third(t.prev))) {
			continue
		}
		if c := w.accounts[wish.acct].again(w.True()); c != nil && !c.expires.After(t.prev.ExpiresAt) {
			w.touch(t, capWait, capWait, "the same value or a shorter one again")
		}
	}
	for _, a := range w.accounts {
		if a.noAccess {
			w.touchAccess(a)
		}
		for _, t := range w.tokens {
			if wish := w.cfg.find(t.name); wish != nil && w.accounts[wish.acct] == a && !a.keys[wish.key] {
				w.touch(t, capWait, capWait, "its key is gone")
			}
		}
	}
	if late, early := w.allowed(); w.inst != nil && max(late, early) > 32*time.Second {
		w.touchAll(capWait, capWait, "a clock that nobody can know to be wrong")
	}
	if w.inst == nil {
		w.touchAll(capWait, capWait, "the program did not run")
	}
}

// disturb changes a file behind the daemon's back, which is told.
func (w *world) disturb(f *file) {
	w.mu.Lock()
	i, now := w.inst, w.bubble()
	w.sum.faults++
	w.notef("%s is changed by somebody", f.id)
	f.spoiled = true
	f.freshBy = max(f.freshBy, now+capWait)
	f.hurt = append(f.hurt, now)
	if n := len(f.hurt); n > 3 && now-f.hurt[n-4] < 11*time.Minute && f.token.prev != nil {
		f.stormAt = f.token.prev.N // left alone until the next version
	}
	up := i != nil && !i.dead && f.listed
	w.mu.Unlock()
	if up {
		i.r.Disturbed(f.token.name, f.id)
	}
}
