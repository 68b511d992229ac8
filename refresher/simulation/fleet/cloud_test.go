package fleet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"iam-token-refresher/refresher"
)

// cloud is what the fleet talks to. It counts.
type cloud struct {
	start time.Time

	mu     sync.Mutex
	mints  []time.Duration // when, since the start
	probes []request

	// away: IAM answers nothing but errors until then.
	away time.Duration
	// mintRate and probeRate are what is answered in a second, the rest is
	// refused (0: everything is answered); retryAfter is what a refusal asks for.
	mintRate, probeRate int
	retryAfter          time.Duration
	minted, probed      second
	issued              int
}

// request is a probe.
type request struct {
	at    time.Duration
	again bool // of the value that the same sidecar asked about before
}

// second counts what was answered in one.
type second struct{ n, count int }

// allows tells whether one more is answered at a time.
func (s *second) allows(at time.Duration, rate int) bool {
	if n := int(at / time.Second); n != s.n {
		s.n, s.count = n, 0
	}
	s.count++
	return rate == 0 || s.count <= rate
}

func (c *cloud) now() time.Duration { return time.Since(c.start) }

const latency = 50 * time.Millisecond

func wait(ctx context.Context) error {
	select {
	case <-time.After(latency):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// source is one sidecar's.
type source struct {
	cloud *cloud
	name  string
}

func (s *source) Identity() string { return s.name }

func (s *source) Mint(ctx context.Context) (refresher.Minted, error) {
	c := s.cloud
	c.mu.Lock()
	at := c.now()
	c.mints = append(c.mints, at)
	refused := at < c.away
	throttled := !refused && !c.minted.allows(at, c.mintRate)
	c.issued++
	value := fmt.Sprintf("value-%d", c.issued)
	c.mu.Unlock()
	if err := wait(ctx); err != nil {
		return refresher.Minted{}, err
	}
	switch {
	case refused:
		return refresher.Minted{}, errors.New("iam is away")
	case throttled:
		return refresher.Minted{}, &refresher.Failure{Err: errors.New("too many requests"), RetryAfter: c.retryAfter}
	}
	return refresher.Minted{Value: refresher.NewValue(value), Type: refresher.TypeIAM, ExpiresAt: time.Now().Add(12 * time.Hour)}, nil
}

// probe is one sidecar's. It is called by one worker at a time.
type probe struct {
	cloud *cloud
	last  refresher.Value
}

func (*probe) Target() string { return "tracker" }
func (*probe) Host() string   { return "tracker" }

func (p *probe) Probe(ctx context.Context, v refresher.Value) refresher.Finding {
	c := p.cloud
	c.mu.Lock()
	at := c.now()
	c.probes = append(c.probes, request{at, p.last == v})
	p.last = v
	throttled := !c.probed.allows(at, c.probeRate)
	c.mu.Unlock()
	switch err := wait(ctx); {
	case err != nil:
		return refresher.Finding{Verdict: refresher.Unknown, Reason: err.Error()}
	case throttled:
		return refresher.Finding{Verdict: refresher.Unknown, Reason: "429", Throttled: true}
	}
	return refresher.Finding{Verdict: refresher.Accepted, Reason: "200"}
}

// bins counts times in equal parts of [from, to).
func bins(times []time.Duration, from, to, width time.Duration) []int {
	counts := make([]int, (to-from)/width)
	for _, t := range times {
		if i := int((t - from) / width); t >= from && i < len(counts) {
			counts[i]++
		}
	}
	return counts
}

// peakToMean says how unevenly bins are filled, and how unevenly they may be:
// 1.5 for ten thousand sidecars, more for few, among which chance is greater.
func peakToMean(bins []int) (peak int, mean, ratio, allowed float64) {
	sum := 0
	for _, n := range bins {
		sum += n
		peak = max(peak, n)
	}
	mean = float64(sum) / float64(len(bins))
	return peak, mean, float64(peak) / mean, max(1.5, 1+6/math.Sqrt(mean))
}

// clock is the bubble's.
type clock struct{ start time.Time }

func (clock) Now() time.Time           { return time.Now().Round(0) }
func (c clock) Elapsed() time.Duration { return time.Since(c.start) }

func (clock) NewAlarm() (refresher.Alarm, error) { return &alarm{c: make(chan struct{}, 1)}, nil }

type alarm struct {
	c     chan struct{}
	timer *time.Timer
}

func (a *alarm) C() <-chan struct{} { return a.c }

func (a *alarm) Set(t time.Time) {
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.timer = nil; !t.IsZero() {
		a.timer = time.AfterFunc(time.Until(t), func() {
			select {
			case a.c <- struct{}{}:
			default:
			}
		})
	}
}

func (a *alarm) Close() error {
	a.Set(time.Time{})
	return nil
}
