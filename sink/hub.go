package sink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	requestTimeout = 10 * time.Second // to send a request
	answerTimeout  = 30 * time.Second // to take its answer
	idleTimeout    = 2 * time.Minute  // between requests
	maxHeaders     = 16 << 10
	maxBody        = 4 << 10
	// silentGrace is how long a connection that has sent nothing may hold up
	// the end: its request may be on the way.
	silentGrace = 250 * time.Millisecond
)

// hub is what a socket and a metadata listener have in common: an HTTP server
// over a table of endpoints.
type hub struct {
	live Live
	log  *slog.Logger
	gate *gate
	// connState is turnState; a variable for tests.
	connState func(net.Conn, http.ConnState)
	// table is replaced under mu.
	table atomic.Pointer[table]

	mu      sync.Mutex
	ln      *accepting
	server  *http.Server
	retired sync.WaitGroup // those that ln took the place of
	turning sync.WaitGroup
	closing chan struct{}
	// parked are the readers that wait.
	parked  sync.WaitGroup
	parking sync.Mutex // no wait begins once closing is closed
}

func newHub(live Live, logger *slog.Logger, g *gate) *hub {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	g.log = logger
	h := &hub{live: live, log: logger, gate: g, connState: turnState, closing: make(chan struct{})}
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
	h.gate.closeIf(func(c *conn) bool { return old.shrank(next, &c.peer) })
	close(old.replaced)
}

// listenAndServe binds and serves until close; where names the place for errors.
func (h *hub) listenAndServe(where string, bind func() (net.Listener, error), handler http.HandlerFunc) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server != nil {
		return errors.New("listen on " + where + ": it listens already")
	}
	select {
	case <-h.closing:
		return errors.New("listen on " + where + ": it was closed")
	default:
	}
	ln, err := bind()
	if err != nil {
		return err
	}
	h.serve(ln, handler)
	return nil
}

func (h *hub) serve(ln net.Listener, handler http.HandlerFunc) {
	h.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := connOf(r.Context())
			c.serving.Store(true)
			defer c.serving.Store(false)
			if !c.taken.Swap(true) {
				h.gate.heard()
			}
			if r.ContentLength != 0 {
				w.Header().Set("Connection", "close") // after a body it cannot rest
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTimeout))
			}
			handler(w, r)
		}),
		ReadHeaderTimeout: requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaders,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: h.connState,
		ErrorLog:  log.New(debugWriter{h.log}, "", 0),
	}
	h.turning.Go(func() { _ = h.server.Serve(turnListener{h.gate, ln.Addr()}) })
	h.ln = h.accept(ln)
}

// accepting is a listener whose connections are being accepted.
type accepting struct {
	net.Listener
	quit chan struct{} // closed when its end is meant
	done chan struct{} // closed when no connection is accepted any more
}

func (h *hub) accept(ln net.Listener) *accepting {
	a := &accepting{Listener: ln, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		if err := h.gate.accept(ln, a.quit); err != nil {
			h.log.Error("a listener failed and answers no more: restart the daemon", "listener", ln.Addr().String(), "error", err)
		}
	}()
	return a
}

// end ends accepting at t. A deadline ends Accept and leaves the socket as it
// is: whoever else has it open, such as systemd, goes on listening.
func (a *accepting) end(t time.Time) {
	close(a.quit)
	if d, ok := a.Listener.(interface{ SetDeadline(time.Time) error }); !ok || d.SetDeadline(t) != nil {
		_ = a.Listener.Close()
	}
}

// listenAgain accepts from what bind makes, where it makes something, instead
// of from what there was. The connections that were accepted are not disturbed.
func (h *hub) listenAgain(bind func() (net.Listener, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closing:
		return nil
	default:
	}
	if h.server == nil {
		return nil
	}
	ln, err := bind()
	if err != nil || ln == nil {
		return err
	}
	old := h.ln
	h.ln = h.accept(ln)
	old.end(time.Now().Add(silentGrace)) // some may have connected, and not have been accepted yet
	h.retired.Go(func() {
		<-old.done
		_ = old.Close()
	})
	return nil
}

// Addr is the address that it listens on; nil when it does not.
func (h *hub) Addr() net.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ln == nil {
		return nil
	}
	return h.ln.Addr()
}

func (h *hub) listening() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.server != nil
}

// whenClosing calls f when the listener closes, unless stop is called before.
func (h *hub) whenClosing(f func()) (stop func()) {
	stopped := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-h.closing:
			f()
		case <-stopped:
		}
	}()
	return func() {
		close(stopped)
		<-ended
	}
}

// close ends in three steps: no connection is accepted any more, waits end,
// requests that were sent are answered.
func (h *hub) close(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closing:
		return nil
	default:
		h.parking.Lock()
		close(h.closing)
		h.parking.Unlock()
	}
	if h.server == nil {
		return nil
	}
	h.ln.end(time.Now())
	<-h.ln.done
	h.retired.Wait()
	defer context.AfterFunc(ctx, func() { h.gate.closeIf(func(*conn) bool { return true }) })()
	// Once net/http shuts down it drops the requests that it reads, or has read
	// and not yet passed on, also the first of a connection.
	h.gate.awaitFirst(ctx, silentGrace)
	h.gate.closeIf(func(c *conn) bool { return !c.served.Load() && !c.serving.Load() })
	h.gate.end()
	h.turning.Wait()
	err := h.server.Shutdown(ctx)
	h.parked.Wait()
	if err != nil {
		err = errors.Join(err, h.server.Close())
	}
	if cerr := h.ln.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// debugWriter takes net/http's complaints about its clients, and its word that
// one of our handlers panicked.
type debugWriter struct{ log *slog.Logger }

var _ io.Writer = debugWriter{}

func (d debugWriter) Write(b []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(b, []byte("panic serving")) {
		level = slog.LevelError
	}
	d.log.Log(context.Background(), level, "http", "message", string(b))
	return len(b), nil
}
