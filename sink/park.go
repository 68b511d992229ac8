package sink

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"iam-token-refresher/sink/peer"
	"iam-token-refresher/sink/turns"
)

// park answers a reader that waits when there is news, and takes its connection
// away from net/http meanwhile: that would keep some 20 KB of buffers and stacks
// for it. It returns false when that cannot be done.
func (s *Server) park(w http.ResponseWriter, r *http.Request, q query) bool {
	// The request is not kept: these strings are small parts of it.
	q.name = strings.Clone(q.name)
	q.known = slices.Clone(q.known)
	for i := range q.known {
		q.known[i] = strings.Clone(q.known[i])
	}
	keep := !r.Close && r.ProtoAtLeast(1, 1)
	return s.server.Detach(w, r, func(c *turns.Conn) bool { return s.waitAndAnswer(c, &q, keep) })
}

// waitAndAnswer tells whether the connection can be used again.
func (s *Server) waitAndAnswer(c *turns.Conn, q *query, keep bool) bool {
	silent, stop := c.Watch()
	defer stop()
	e := s.wait(c.Peer(), q, silent)
	select {
	case <-s.server.Closing():
		keep = false
	default:
	}
	select {
	case <-silent:
		if c.Gone() {
			return false
		}
	default:
	}
	return s.tell(c, q, e, !keep) == nil && keep
}

// tell answers from e, or that there is no such token.
func (s *Server) tell(c *turns.Conn, q *query, e *Endpoint, last bool) error {
	_ = c.SetWriteDeadline(time.Now().Add(turns.AnswerTimeout))
	a := detached{header: make(http.Header), code: http.StatusOK}
	if e == nil {
		notFound(&a)
	} else {
		s.answer(&a, q, e)
	}
	return a.send(c, q.head, last)
}

// wait returns when there is a value other than the known one, or its time is
// over, or the reader says no more, or the server closes: whether a reader that
// has closed its half of the connection is still there cannot be watched. It
// returns nil when there is no such token any more, or not for this peer.
func (s *Server) wait(p *peer.Peer, q *query, silent <-chan struct{}) *Endpoint {
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
		case <-s.server.Closing():
			return e
		case <-silent:
			return e
		}
	}
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
