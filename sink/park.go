package sink

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// park takes the connection of a reader that waits away from net/http, which
// would keep some 20 KB of buffers and stacks for it, and gives it back after
// the answer. It returns false when that cannot be done.
func (s *Server) park(w http.ResponseWriter, r *http.Request, c *conn, q query) bool {
	if r.ContentLength != 0 || !s.beginWait() {
		return false
	}
	_, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.parked.Done()
		return false
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		ahead, _ := buffered.Reader.Peek(n)
		c.ahead = slices.Clone(ahead)
	}
	// The request is not kept: these strings are small parts of it.
	q.name = strings.Clone(q.name)
	q.known = slices.Clone(q.known)
	for i := range q.known {
		q.known[i] = strings.Clone(q.known[i])
	}
	keep := !r.Close && r.ProtoAtLeast(1, 1)
	go func() {
		defer s.parked.Done()
		if !s.waitAndAnswer(c, &q, keep) || !s.giveBack(c) {
			c.Close()
		}
	}()
	return true
}

// beginWait counts a wait, unless the server closes.
func (h *hub) beginWait() bool {
	h.parking.Lock()
	defer h.parking.Unlock()
	select {
	case <-h.closing:
		return false
	default:
		h.parked.Add(1)
		return true
	}
}

// waitAndAnswer tells whether the connection can be used again.
func (s *Server) waitAndAnswer(c *conn, q *query, keep bool) bool {
	gone, listened := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(listened)
		if !c.awaitByte() {
			close(gone)
		}
	}()
	e := s.wait(&c.peer, q, gone)
	select {
	case <-s.closing:
		keep = false
	default:
	}
	// The answer comes before all else: a thousand may be waiting for theirs.
	told := false
	select {
	case <-gone:
	default:
		told = s.tell(c, q, e, !keep) == nil
	}
	_ = c.SetReadDeadline(time.Unix(1, 0)) // ends awaitByte
	<-listened
	return told && keep
}

// tell answers from e, or that there is no such token.
func (s *Server) tell(c *conn, q *query, e *Endpoint, last bool) error {
	_ = c.SetWriteDeadline(time.Now().Add(answerTimeout))
	a := detached{header: make(http.Header), code: http.StatusOK}
	if e == nil {
		notFound(&a)
	} else {
		s.answer(&a, q, e)
	}
	return a.send(c, q.head, last)
}

// wait returns when there is a value other than the known one, or its time is
// over, or the reader is gone, or the server closes. It returns nil when there
// is no such token any more, or not for this peer.
func (s *Server) wait(p *peer, q *query, gone <-chan struct{}) *Endpoint {
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	for {
		// These are read before the value is looked at, so that no change is
		// missed in between.
		t := s.table.Load()
		e := t.findOrDefault(q.name, p)
		if e == nil {
			return nil
		}
		next := e.held.Load().next
		if v, _, _ := e.current(&s.live); q.isNews(v) {
			return e
		}
		select {
		case <-next:
		case <-t.replaced:
		case <-timer.C:
			return e
		case <-s.closing:
			return e
		case <-gone:
			return e
		}
	}
}

// giveBack tells whether the connection waits for another request.
func (s *Server) giveBack(c *conn) bool {
	_ = c.SetDeadline(time.Time{})
	return s.gate.rest(c)
}

// detached is the answer on a connection that net/http has let go of.
type detached struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (d *detached) Header() http.Header         { return d.header }
func (d *detached) WriteHeader(code int)        { d.code = code }
func (d *detached) Write(b []byte) (int, error) { return d.body.Write(b) }

func (d *detached) send(c net.Conn, head, last bool) error {
	method := http.MethodGet
	if head {
		method = http.MethodHead
	}
	d.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	answer := http.Response{
		StatusCode: d.code, ProtoMajor: 1, ProtoMinor: 1, Close: last,
		Header: d.header, ContentLength: int64(d.body.Len()), Body: io.NopCloser(&d.body),
		Request: &http.Request{Method: method},
	}
	var b bytes.Buffer
	if err := answer.Write(&b); err != nil {
		return err
	}
	_, err := c.Write(b.Bytes())
	return err
}
