package sink

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"iam-token-refresher/sink/peer"
	"iam-token-refresher/sink/turns"
)

// maxBody is the most of a request's body that is read.
const maxBody = 4 << 10

// hub is what all listeners have in common: a server over a table of endpoints.
type hub struct {
	server *turns.Server
	live   Live
	log    *slog.Logger
	noted  turns.Rarely

	mu sync.Mutex
	// table is replaced under mu.
	table atomic.Pointer[table]
}

func newHub(live Live, o turns.Options) *hub {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &hub{server: turns.NewServer(o), live: live, log: o.Log}
	h.table.Store(newTable(nil))
	return h
}

// update replaces what readers see, closes the connections of peers that may
// read less than before, and wakes those who wait on others.
func (h *hub) update(endpoints []*Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := newTable(endpoints)
	old := h.table.Swap(next)
	h.server.Disconnect(func(p *peer.Peer) bool { return old.shrank(next, p) })
	close(old.replaced)
}

// Addr is the address that it listens on; nil when it does not.
func (h *hub) Addr() net.Addr { return h.server.Addr() }

// whenClosing calls f when the listener closes, unless stop is called before.
func (h *hub) whenClosing(f func()) (stop func()) {
	stopped := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-h.server.Closing():
			f()
		case <-stopped:
		}
	}()
	return func() {
		close(stopped)
		<-ended
	}
}
