package simulation

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/refresher"
)

var (
	seeds = flag.Int("seeds", defaultSeeds, "how many runs")
	seed  = flag.Uint64("seed", 1, "the first run's seed")
	lines = flag.Int("lines", 40, "lines of the timeline of a run that fails")
)

// newWorld is the world of a seed, before the program starts.
func newWorld(seed uint64) *world {
	w := &world{
		machine: newMachine(), seed: seed,
		files: map[string]*file{}, values: map[string]*value{}, etags: map[string]string{},
		sum: summary{without: map[string]time.Duration{}},
	}
	w.store = store{w: w, saved: map[string]saved{}, turn: map[string]chan struct{}{}}
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 2 + rng.IntN(2) {
		w.accounts = append(w.accounts, &account{
			w: w, name: fmt.Sprintf("acct%d", i),
			lifetime: []time.Duration{12 * time.Hour, 12 * time.Hour, 12 * time.Hour, time.Hour, 20 * time.Minute}[rng.IntN(5)],
			reissue:  []float64{0, 0, 0.3, 0.5}[rng.IntN(4)],
			keys:     map[int]bool{},
		})
	}
	for i, name := range []string{"bot", "ci", "dash"}[:2+rng.IntN(2)] {
		t := &token{name: name, known: map[*value]*known{}}
		w.tokens = append(w.tokens, t)
		for n := range 2 {
			id := fmt.Sprintf("file:%s.%d", name, n)
			w.files[id] = &file{w: w, id: id, token: t}
		}
		acct := i % len(w.accounts)
		wi := wish{
			token: name, acct: acct, key: w.newKey(w.accounts[acct]), target: "org" + name,
			strict: rng.Float64() < 0.15, probed: rng.Float64() < 0.85, files: []string{"file:" + name + ".0"},
		}
		w.cfg = append(w.cfg, wi)
	}
	w.invent()
	for at := time.Duration(0); at < duration; {
		at += time.Duration(rng.ExpFloat64() * float64(4*time.Minute))
		w.plan(at, func() {})
	}
	return w
}

// run lives through 30 days. It must be called in a bubble.
func (w *world) run() {
	w.start()
	w.look()
	for len(w.agenda.list) > 0 && len(w.violations) == 0 {
		w.mu.Lock()
		e := heap.Pop(&w.agenda).(entry)
		killed := w.killed
		if e.at > duration {
			w.mu.Unlock()
			break
		}
		up := w.inst != nil
		w.mu.Unlock()
		t := time.NewTimer(max(0, e.at-w.bubble()))
		if up {
			select {
			case <-t.C:
			case <-killed:
				t.Stop()
				synctest.Wait()
				w.mu.Lock()
				w.plan(e.at, e.do)
				down := between(w.chance("down", int(w.bubble())), 100*time.Millisecond, 10*time.Minute)
				w.mu.Unlock()
				w.kill(down)
				w.look()
				continue
			}
		} else {
			<-t.C
		}
		synctest.Wait()
		w.mu.Lock()
		w.touchFaults()
		w.mu.Unlock()
		e.do()
		synctest.Wait()
		w.mu.Lock()
		w.touchFaults()
		w.mu.Unlock()
		w.look()
	}
	w.mu.Lock()
	w.active = nil
	up := w.inst != nil
	w.mu.Unlock()
	if up {
		w.stop()
	}
	time.Sleep(time.Minute) // what hung ends
}

// simulate is a run with a seed.
func simulate(t *testing.T, seed uint64) *world {
	var w *world
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed)
		w.run()
	})
	return w
}

func TestSimulation(t *testing.T) {
	var mu sync.Mutex
	var sum summary
	began := time.Now()
	collect := debug.SetGCPercent(400) // a third of the time otherwise
	t.Cleanup(func() {
		debug.SetGCPercent(collect)
		report(sum, time.Since(began))
	})
	for s := *seed; s < *seed+uint64(*seeds); s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			w := simulate(t, s)
			mu.Lock()
			defer mu.Unlock()
			sum.add(w.sum)
			if len(w.violations) > 0 {
				t.Errorf("seed %d: %s\n    again: go test ./refresher/simulation -run TestSimulation -seed %d -seeds 1 -lines 200",
					s, w.violations[0], s)
			}
		})
	}
}

// report prints what the runs came to.
func report(s summary, took time.Duration) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs of 30 days in %s: %d events, %d faults, %d starts, %d reloads, %d mints, %d probes, %d versions, %d reads\n",
		*seeds, took.Round(time.Millisecond), s.events, s.faults, s.starts, s.swaps, s.mints, s.probes, s.renewals, s.reads)
	b.WriteString("seconds without a valid token for readers of sockets, and why:\n")
	whys := make([]string, 0, len(s.without))
	for why := range s.without {
		whys = append(whys, why)
	}
	slices.SortFunc(whys, func(a, b string) int { return int(s.without[b] - s.without[a]) })
	for _, why := range whys {
		fmt.Fprintf(&b, "%10.0f  %s\n", s.without[why].Seconds(), why)
	}
	fmt.Print(b.String())
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	t.Parallel()
	for s := uint64(1); s <= sameSeeds; s++ {
		first := simulate(t, s)
		for range sameSeeds {
			if again := simulate(t, s); again.traceSum != first.traceSum || again.sum.events != first.sum.events {
				t.Errorf("seed %d: %d events with sum %x, then %d with %x", s, first.sum.events, first.traceSum, again.sum.events, again.traceSum)
			}
		}
	}
}

var _ refresher.Clock = (*machine)(nil)
