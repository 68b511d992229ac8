package emulator

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// faults holds what was injected. Safe for concurrent use.
type faults struct {
	mu     sync.Mutex
	active []*activeFault
	// cleared has a channel per service, closed when its faults are cleared:
	// calls that hang wait for it.
	cleared map[string]chan struct{}
}

type activeFault struct {
	Fault
	until time.Time // zero: no end
}

func newFaults() *faults {
	f := &faults{cleared: map[string]chan struct{}{}}
	for service := range methods {
		f.cleared[service] = make(chan struct{})
	}
	return f
}

func (fs *faults) inject(f Fault) error {
	if err := f.validate(); err != nil {
		return fmt.Errorf("inject fault: %w", err)
	}
	a := &activeFault{Fault: f}
	if f.For > 0 {
		a.until = time.Now().Add(f.For)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.active = append(fs.active, a)
	return nil
}

// clear removes the faults of one service, or all when it is empty, and lets
// the calls go on that hang because of them.
func (fs *faults) clear(service string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.active = slices.DeleteFunc(fs.active, func(a *activeFault) bool {
		return service == "" || a.Service == service
	})
	for name, c := range fs.cleared {
		if service == "" || name == service {
			close(c)
			fs.cleared[name] = make(chan struct{})
		}
	}
}

// list returns what is still active, with what is left of counts and times.
func (fs *faults) list() []Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.dropOver(time.Now())
	out := make([]Fault, 0, len(fs.active))
	for _, a := range fs.active {
		f := a.Fault
		if !a.until.IsZero() {
			f.For = time.Until(a.until).Round(time.Millisecond)
		}
		out = append(out, f)
	}
	return out
}

// taken is what goes wrong with one call.
type taken struct {
	slow    time.Duration
	fault   *Fault // nil: nothing else
	until   time.Time
	cleared <-chan struct{}
}

// take uses up one count of each fault that applies to a call.
func (fs *faults) take(service, method string) taken {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.active) == 0 {
		return taken{}
	}
	fs.dropOver(time.Now())
	t := taken{cleared: fs.cleared[service]}
	for _, a := range fs.active {
		if a.Service != service || a.Method != "" && a.Method != method {
			continue
		}
		if a.Kind == KindSlow {
			t.slow += a.Latency
			if a.Latency == 0 {
				t.slow += 2 * time.Second
			}
		} else if t.fault == nil {
			f := a.Fault
			t.fault, t.until = &f, a.until
		} else {
			continue
		}
		if a.Count > 0 {
			if a.Count--; a.Count == 0 {
				a.Count = -1 // over
			}
		}
	}
	fs.dropOver(time.Now())
	return t
}

func (fs *faults) dropOver(now time.Time) {
	fs.active = slices.DeleteFunc(fs.active, func(a *activeFault) bool {
		return a.Count < 0 || !a.until.IsZero() && !now.Before(a.until)
	})
}
