package emulator

import (
	"context"
	"maps"
	"sync"
)

// counters count calls by "service/method". Safe for concurrent use.
type counters struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counters) add(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[key]++
}

func (c *counters) snapshot() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		return map[string]int{}
	}
	return maps.Clone(c.n)
}

func (c *counters) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.n)
}

// call is one request on its way through a service. It belongs to the
// goroutine that serves the request.
type call struct {
	service, method string
	// fault is what the service itself must do wrong; transport faults have
	// been dealt with before.
	fault *Fault

	// outcome and owner are for the log. When a client leaves, the log is
	// written while the service may still be at it.
	mu             sync.Mutex
	outcome, owner string
}

// ended says how the call ended.
func (c *call) ended(outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcome = outcome
}

// by says whose call it was.
func (c *call) by(owner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner = owner
}

func (c *call) story() (outcome, owner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outcome, c.owner
}

func (c *call) does(kind string) bool { return c.fault != nil && c.fault.Kind == kind }

type callKey struct{}

// callOf returns the call that a service's handler was started for.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}
