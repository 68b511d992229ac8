package turns

import (
	"bytes"
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"iam-token-refresher/sink/peer"
)

// What a client has time for.
const (
	RequestTimeout = 10 * time.Second // to send a request
	AnswerTimeout  = 30 * time.Second // to take its answer
	IdleTimeout    = 2 * time.Minute  // between requests
)

const (
	maxHeaders = 16 << 10
	// silentGrace is how long a connection that has sent nothing may hold up
	// the end: its request may be on the way.
	silentGrace = 250 * time.Millisecond
)

// Options make a [Server].
type Options struct {
	// Max is how many connections there may be, MaxPerUser how many of one user;
	// less where the process may have fewer descriptors.
	Max, MaxPerUser int
	// Peer tells who connected. Where that is nil it cannot be told: then there
	// is no limit per user, and over the limit the connections that have been
	// silent for longest are closed, not the new ones.
	Peer func(net.Conn) (peer.Peer, error)
	Log  *slog.Logger
}

// Server serves HTTP/1. Its methods may be called concurrently.
type Server struct {
	log  *slog.Logger
	gate *gate
	// connState is connState; a variable for tests.
	connState func(net.Conn, http.ConnState)

	mu      sync.Mutex
	ln      *accepting
	server  *http.Server
	retired sync.WaitGroup // those that ln took the place of
	turning sync.WaitGroup
	closing chan struct{}
	// detached are the connections that net/http has let go of while they are
	// answered.
	detached  sync.WaitGroup
	detaching sync.Mutex // nothing is detached once closing is closed
}

// NewServer makes a Server that does not listen yet.
func NewServer(o Options) *Server {
	return &Server{log: o.Log, gate: newGate(o), connState: connState, closing: make(chan struct{})}
}

// ListenAndServe binds, and serves until Close; where names the place for
// errors. It returns once it listens.
func (s *Server) ListenAndServe(where string, bind func() (net.Listener, error), handler http.HandlerFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("listen on " + where + ": it listens already")
	}
	select {
	case <-s.closing:
		return errors.New("listen on " + where + ": it was closed")
	default:
	}
	ln, err := bind()
	if err != nil {
		return err
	}
	s.serve(ln, handler)
	return nil
}

func (s *Server) serve(ln net.Listener, handler http.HandlerFunc) {
	s.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := ConnOf(r.Context())
			c.serving.Store(true)
			defer c.serving.Store(false)
			if !c.taken.Swap(true) {
				s.gate.heard()
			}
			var patience time.Time // only a body is waited for
			if r.ContentLength != 0 {
				w.Header().Set("Connection", "close") // after a body it cannot rest
				patience = time.Now().Add(RequestTimeout)
				r.Body = awaitedBody{r.Body, c}
				defer c.wants.Store(true) // net/http reads what the handler did not
			}
			_ = http.NewResponseController(w).SetReadDeadline(patience)
			handler(w, r)
		}),
		ReadHeaderTimeout: RequestTimeout,
		WriteTimeout:      AnswerTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    maxHeaders,
		// net/http would answer OPTIONS * itself, past all that we check.
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: s.connState,
		ErrorLog:  ErrorLog(s.log),
	}
	s.turning.Go(func() { _ = s.server.Serve(turnListener{s.gate, ln.Addr()}) })
	s.ln = s.accept(ln)
}

// accepting is a listener whose connections are being accepted.
type accepting struct {
	net.Listener
	quit chan struct{} // closed when its end is meant
	done chan struct{} // closed when no connection is accepted any more
}

func (s *Server) accept(ln net.Listener) *accepting {
	a := &accepting{Listener: ln, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		if err := s.gate.accept(ln, a.quit); err != nil {
			s.log.Error("a listener failed and answers no more: restart the daemon", "listener", ln.Addr().String(), "error", err)
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

// ListenAgain accepts from what bind makes, where it makes something, instead
// of from what there was. The connections that were accepted are not disturbed.
// Where the server does not listen it does nothing.
func (s *Server) ListenAgain(bind func() (net.Listener, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return nil
	default:
	}
	if s.server == nil {
		return nil
	}
	ln, err := bind()
	if err != nil || ln == nil {
		return err
	}
	old := s.ln
	s.ln = s.accept(ln)
	old.end(time.Now().Add(silentGrace)) // some may have connected, and not have been accepted yet
	s.retired.Go(func() {
		<-old.done
		_ = old.Close()
	})
	return nil
}

// Addr is the address that it listens on; nil when it does not.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return nil
	}
	return s.ln.Addr()
}

// Listening tells whether ListenAndServe has been successful.
func (s *Server) Listening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server != nil
}

// Closing is closed when Close begins: what answers depend on is not waited for
// any longer.
func (s *Server) Closing() <-chan struct{} { return s.closing }

// Disconnect closes the connections of the peers that which names.
func (s *Server) Disconnect(which func(*peer.Peer) bool) {
	s.gate.closeIf(func(c *Conn) bool { return which(&c.peer) })
}

// Close ends in three steps: no connection is accepted any more, waits end,
// requests that were sent are answered. When ctx ends first, connections are
// cut.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return nil
	default:
		s.detaching.Lock()
		close(s.closing)
		s.detaching.Unlock()
	}
	if s.server == nil {
		return nil
	}
	s.ln.end(time.Now())
	<-s.ln.done
	s.retired.Wait()
	defer context.AfterFunc(ctx, func() { s.gate.closeIf(func(*Conn) bool { return true }) })()
	// Once net/http shuts down it drops the requests that it reads, or has read
	// and not yet passed on, also the first of a connection.
	s.gate.awaitFirst(ctx, silentGrace)
	s.gate.closeIf(func(c *Conn) bool { return !c.served.Load() && !c.serving.Load() })
	s.gate.end()
	s.turning.Wait()
	err := s.server.Shutdown(ctx)
	s.detached.Wait()
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	if cerr := s.ln.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// Counts says what the connections do.
type Counts struct {
	Open     int
	Resting  int // without a turn, until their next request
	Turns    int // that are taken
	Waiting  int // for a turn
	Detached int
}

// Counts counts the connections of this moment.
func (s *Server) Counts() Counts {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	n := Counts{Open: len(g.conns)}
	for c := range g.conns {
		if c.resting.Load() {
			n.Resting++
		}
		if c.detached.Load() {
			n.Detached++
		}
	}
	for _, turns := range g.begun {
		n.Turns += turns
	}
	for _, queue := range g.queued {
		n.Waiting += len(queue)
	}
	return n
}

// ErrorLog takes net/http's complaints about its clients, and its word that a
// handler panicked.
func ErrorLog(l *slog.Logger) *log.Logger { return log.New(complaints{l}, "", 0) }

type complaints struct{ log *slog.Logger }

func (c complaints) Write(b []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(b, []byte("panic serving")) {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "http", "message", string(b))
	return len(b), nil
}
