package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// outletPatience is how long a line is waited for.
	outletPatience = 250 * time.Millisecond
	// outletRoom is how many lines are kept for whoever does not take them.
	outletRoom = 256
)

// outlet is where the log leaves the process. A terminal that was stopped with
// Ctrl-S, a pipe that nobody reads and a journal that hangs take no line for as
// long as they like, and tokens must not wait for them: a line is waited for a
// moment, those after it are kept until it is taken, and once there are too
// many, counted.
//
// As long as lines are taken, each has been when the call returns.
type outlet struct {
	root slog.Handler // takes what the outlet has to say

	mu    sync.Mutex
	queue []*delivery // the first is being handed on; empty: no goroutine runs
	stuck bool        // it was waited for in vain, and the queue is not empty since
}

// delivery is a record on its way out, or a number of records that are not.
type delivery struct {
	to     slog.Handler
	record slog.Record
	lost   int
	done   chan struct{} // closed when it was taken
}

// newOutlet returns a handler in front of h that does not wait for long.
func newOutlet(h slog.Handler) slog.Handler {
	return &outletHandler{Handler: h, outlet: &outlet{root: h}}
}

type outletHandler struct {
	slog.Handler
	outlet *outlet
}

// Handle implements [slog.Handler]. What becomes of the record nobody hears.
func (h *outletHandler) Handle(_ context.Context, r slog.Record) error {
	h.outlet.deliver(h.Handler, r.Clone())
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *outletHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &outletHandler{h.Handler.WithAttrs(attrs), h.outlet}
}

// WithGroup implements [slog.Handler].
func (h *outletHandler) WithGroup(name string) slog.Handler {
	return &outletHandler{h.Handler.WithGroup(name), h.outlet}
}

func (o *outlet) deliver(to slog.Handler, r slog.Record) {
	d := o.enqueue(to, r)
	if d == nil {
		return
	}
	timer := time.NewTimer(outletPatience)
	defer timer.Stop()
	select {
	case <-d.done:
	case <-timer.C:
		o.mu.Lock()
		o.stuck = len(o.queue) > 0
		o.mu.Unlock()
	}
}

// enqueue returns nil where there is nothing to wait for.
func (o *outlet) enqueue(to slog.Handler, r slog.Record) *delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.queue); n >= outletRoom {
		last := o.queue[n-1]
		if last.lost == 0 {
			last = &delivery{to: o.root, done: make(chan struct{})}
			o.queue = append(o.queue, last)
		}
		last.lost++
		return nil
	}
	d := &delivery{to: to, record: r, done: make(chan struct{})}
	if o.queue = append(o.queue, d); len(o.queue) == 1 {
		go o.run(d)
	}
	if o.stuck {
		return nil
	}
	return d
}

// run hands on what there is, beginning with d. It ends when there is no more:
// nobody waits for it, as it may be stuck for good.
func (o *outlet) run(d *delivery) {
	for d != nil {
		_ = d.to.Handle(context.Background(), o.taken(d))
		close(d.done)
		d = o.next()
	}
}

// taken returns what is handed on. Nothing is added to a loss from now on.
func (o *outlet) taken(d *delivery) slog.Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d.lost == 0 {
		return d.record
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped: stderr was blocked, as by a full pipe or a hung journal", 0)
	r.AddAttrs(slog.Int("lines", d.lost))
	return r
}

// next forgets what was handed on and returns what is to be.
func (o *outlet) next() *delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[0] = nil
	if o.queue = o.queue[1:]; len(o.queue) == 0 {
		o.queue, o.stuck = nil, false
		return nil
	}
	return o.queue[0]
}
