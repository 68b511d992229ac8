package refresher

import (
	"sync"
	"time"
)

// skewTolerated is how wrong the local clock may be before it is corrected
// for: Date headers have whole seconds, answers take their time.
const skewTolerated = 30 * time.Second

// serverClock estimates what time it is for the servers that judge tokens.
//
// There are two witnesses: the local wall clock, corrected by the skew that
// the last Date header showed, and that header's time plus what has elapsed
// since on a clock that nobody sets. A stepped clock fools the first, a paused
// virtual machine the second, both into thinking that it is too early. The
// later one is believed: a token is called expired too early rather than too
// late. A clock that was behind and is set meanwhile is not taken to be behind
// still: it would be ahead by what it was set by, and all that is good expired.
// One that was ahead is still corrected by its old skew; where it was set
// meanwhile, the elapsed time gives the later estimate, and that wins. Its
// methods may be called concurrently.
type serverClock struct {
	local Clock

	mu       sync.RWMutex
	skew     time.Duration // servers minus local, beyond tolerance
	measured time.Duration // the same as measured last, for the metric
	server   time.Time     // zero before the first Date
	at       moment        // of local when it was server
}

// moment is a reading of the local clock.
type moment struct {
	wall    time.Time
	elapsed time.Duration
}

func (c *serverClock) moment() moment { return moment{c.local.Now(), c.local.Elapsed()} }

// Now estimates the servers' time.
func (c *serverClock) Now() time.Time {
	m := c.moment()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.server.IsZero() {
		return m.wall
	}
	elapsed, now := m.elapsed-c.at.elapsed, m.wall
	if set := m.wall.Sub(c.at.wall) - elapsed; c.skew < 0 || set.Abs() <= skewTolerated {
		now = now.Add(c.skew)
	}
	return later(now, c.server.Add(elapsed))
}

// toLocal turns a time of the servers into the local wall time at which an
// alarm for it is to be set.
func (c *serverClock) toLocal(t time.Time) time.Time {
	return t.Add(c.local.Now().Sub(c.Now()))
}

// Skew is how far the servers' clock was ahead of ours when last measured.
func (c *serverClock) Skew() time.Duration {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.measured
}

// observe takes in a server's Date, of an exchange between two readings.
func (c *serverClock) observe(date time.Time, before, after moment) {
	if date.IsZero() {
		return
	}
	// The Date was true at some moment in between, and was cut to a second.
	least, most := date.Sub(after.wall), date.Add(time.Second).Sub(before.wall)
	if least > most {
		return // the clock was set back meanwhile: nothing can be told
	}
	skew := min(max(0, least), most)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measured = skew
	c.skew = 0
	if skew > skewTolerated || skew < -skewTolerated {
		c.skew = skew
	}
	c.server, c.at = after.wall.Add(c.skew), after
}
