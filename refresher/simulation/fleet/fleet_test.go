package fleet

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
)

var sidecars = flag.Int("sidecars", 500, "how many; Tracker's limit is lowered with them")

// What kubernetes/sidecar has.
const (
	refreshSchedule = refresher.DefaultRefresh
	probeSchedule   = "@every 1h"
)

// trackerRate is what Tracker answers in a second: 10, for ten thousand sidecars.
func trackerRate() int { return max(1, 10**sidecars/10_000) }

// fleet is a cluster's sidecars.
type fleet struct {
	*testing.T
	cloud *cloud
	all   []*refresher.Refresher
	stop  context.CancelFunc
	ended sync.WaitGroup
}

// rollout starts all sidecars at the same moment. It must be called in a bubble.
func rollout(t *testing.T, c *cloud) *fleet {
	c.start = time.Now()
	ctx, stop := context.WithCancel(t.Context())
	f := &fleet{T: t, cloud: c, stop: stop}
	random := rand.New(rand.NewPCG(1, 0))
	for i := range *sidecars {
		rolls := rand.New(rand.NewPCG(2, uint64(i))) // its loop's alone
		r := refresher.New(refresher.Options{Clock: clock{c.start}, ProbesPerSecond: refresher.DefaultProbesPerSecond, Random: rolls.Float64})
		spec := refresher.Spec{
			Token: "bot", Required: true, Source: &source{c, fmt.Sprint("sidecar ", i)}, Probe: &probe{cloud: c},
			Policy: refresher.Policy{
				Refresh: schedule(t, refreshSchedule, random.Float64()),
				Reprobe: schedule(t, probeSchedule, random.Float64()),
				Probed:  true, Grace: refresher.DefaultGrace,
			},
		}
		f.all = append(f.all, r)
		f.ended.Go(func() {
			if err := r.Run(ctx, []refresher.Spec{spec}); err != nil {
				t.Error(err)
			}
		})
	}
	return f
}

// schedule is as the daemon makes it of a configuration.
func schedule(t *testing.T, text string, phase float64) func(time.Time) time.Time {
	s, err := config.ParseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Start(phase, time.Unix(0, 0))
}

func (f *fleet) liveUntil(at time.Duration) { time.Sleep(at - f.cloud.now()) }

func (f *fleet) end() {
	f.stop()
	f.ended.Wait()
}

// count is how many sidecars have something true of their status.
func (f *fleet) count(is func(refresher.Status) bool) (n int) {
	synctest.Wait()
	for _, r := range f.all {
		if s, ok := r.Snapshot("bot"); ok && is(s) {
			n++
		}
	}
	return n
}

func servable(s refresher.Status) bool { return s.Servable(time.Now()) }
func fresh(s refresher.Status) bool    { return s.HealthAt(time.Now()) == refresher.Fresh }

// spread fails if times are not evenly spread over [from, to).
func (f *fleet) spread(what string, times []time.Duration, from, to, width time.Duration) {
	f.Helper()
	peak, mean, ratio, allowed := peakToMean(bins(times, from, to, width))
	f.Logf("%s, %s to %s: mean %.1f in %s, peak %d, peak to mean %.2f", what, from, to, mean, width, peak, ratio)
	if !(ratio <= allowed) {
		f.Errorf("%s, %s to %s: peak to mean is %.2f, more than %.2f", what, from, to, ratio, allowed)
	}
}

// mints are those so far, but for each sidecar's first.
func (f *fleet) mints() []time.Duration {
	f.cloud.mu.Lock()
	defer f.cloud.mu.Unlock()
	return slices.Clone(f.cloud.mints[*sidecars:])
}

// probes are those of values that were published already, or of new ones but
// for each sidecar's first.
func (f *fleet) probes(published bool) (times []time.Duration) {
	f.cloud.mu.Lock()
	defer f.cloud.mu.Unlock()
	for _, p := range f.cloud.probes {
		if p.again == published {
			times = append(times, p.at)
		}
	}
	if !published {
		times = times[*sidecars:]
	}
	return times
}

func TestARolloutIsSpreadFromTheFirstIntervalOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := rollout(t, &cloud{probeRate: trackerRate()})
		defer f.end()
		// Tracker refuses most of the first probes: nobody waits longer for that
		// than the grace, twice where a scheduled mint comes in between.
		f.liveUntil(65 * time.Second)
		if n := f.count(servable); n < *sidecars {
			t.Errorf("after 65 s %d of %d have a token", n, *sidecars)
		}
		f.liveUntil(time.Hour)
		n := f.count(fresh)
		t.Logf("after an hour %d of %d are proven", n, *sidecars)
		if n < *sidecars*95/100 {
			t.Errorf("after an hour %d of %d are proven", n, *sidecars)
		}
		f.liveUntil(5 * time.Hour)
		for hour := range 5 {
			from := time.Duration(hour) * time.Hour
			f.spread("scheduled mints", f.mints(), from, from+time.Hour, time.Minute)
		}
		if n := f.count(fresh); n < *sidecars {
			t.Errorf("after five hours %d of %d are proven", n, *sidecars)
		}
	})
}

func TestReprobesStayUnderTrackersLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := rollout(t, &cloud{})
		defer f.end()
		f.liveUntil(4 * time.Hour)
		f.spread("probes of published values", f.probes(true), 0, 4*time.Hour, time.Minute)
		f.spread("probes of new values", f.probes(false), 0, 4*time.Hour, time.Minute)
		for i, n := range bins(append(f.probes(true), f.probes(false)...), 0, 4*time.Hour, time.Minute) {
			if n > 60*trackerRate() {
				t.Errorf("in minute %d Tracker is asked %d times, %d a second", i, n, n/60)
			}
		}
	})
}

func TestAMassRestartInAnOutageIsSpreadInItsRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const away = 40 * time.Minute
		f := rollout(t, &cloud{away: away})
		defer f.end()
		f.liveUntil(away + 10*time.Minute)
		// The first retries come in the first minutes; then each sidecar makes
		// eight an hour.
		f.spread("mints in the outage", f.mints(), 10*time.Minute, away, time.Minute)
		f.spread("mints after the outage", f.mints(), away, away+8*time.Minute, time.Minute)
		if n := f.count(servable); n < *sidecars {
			t.Errorf("ten minutes after the outage %d of %d have a token", n, *sidecars)
		}
	})
}

func TestAThrottledMassRestartIsSpreadInItsRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := rollout(t, &cloud{mintRate: max(1, *sidecars/100), retryAfter: 30 * time.Second})
		defer f.end()
		f.liveUntil(20 * time.Minute)
		// What is asked for in one second after the first is the answer to one
		// Retry-After: a herd that comes back as one.
		peak, _, _, _ := peakToMean(bins(f.mints(), 2*time.Second, 20*time.Minute, time.Second))
		t.Logf("%d of %d ask in one second at most, after the first", peak, *sidecars)
		if peak > *sidecars/4 {
			t.Errorf("%d of %d ask in one second", peak, *sidecars)
		}
		if n := f.count(servable); n < *sidecars {
			t.Errorf("after 20 minutes %d of %d have a token", n, *sidecars)
		}
	})
}
