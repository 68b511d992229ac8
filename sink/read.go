package sink

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"iam-token-refresher/sink/turns"
)

// maxWait is the longest wait that a reader may ask for.
const maxWait = 300 * time.Second

// query is what a reader asks for.
type query struct {
	name       string
	head, json bool
	known      []string // If-None-Match; nil for none
	wait       time.Duration
}

// isNews tells whether v answers the query without a wait.
func (q *query) isNews(v *held) bool { return v != nil && !matches(q.known, v.etag[0]) }

// getToken gives a value. A reader that names the version it has is told only
// of another; with Prefer: wait=N it is told when there is one, within N
// seconds. The wait covers a value that is missing, too.
func (s *Server) getToken(w http.ResponseWriter, r *http.Request, name string) {
	if refuseMethod(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	c := turns.ConnOf(r.Context())
	e := s.table.Load().findOrDefault(name, c.Peer())
	if e == nil {
		notFound(w)
		return
	}
	q := query{
		name: name, head: r.Method == http.MethodHead, json: wantsJSON(r.Header["Accept"]),
		known: r.Header["If-None-Match"], wait: preferredWait(r.Header["Prefer"]),
	}
	if q.wait > 0 {
		if v, _, _ := e.current(&s.live); !q.isNews(v) && s.park(w, r, q) {
			return
		}
	}
	s.answer(w, &q, e)
}

// answer says what there is now.
func (s *Server) answer(w http.ResponseWriter, q *query, e *Endpoint) {
	v, st, now := e.current(&s.live)
	switch {
	case v == nil:
		e.count(readUnavailable)
		unavailable(w, st, now)
	case !q.isNews(v):
		e.count(readNotModified)
		w.Header()["Etag"] = v.etag
		w.WriteHeader(http.StatusNotModified)
	case q.json:
		e.count(readOK)
		writeDocument(w, v, st, now)
	default:
		e.count(readOK)
		writeValue(w, v)
	}
}

// matches implements If-None-Match: a list of ETags, weak or not, or *.
func matches(header []string, etag string) bool {
	for _, h := range header {
		if h == etag {
			return true
		}
		for one := range strings.SplitSeq(h, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// preferredWait reads wait=N of RFC 7240; what it cannot read is no wait.
func preferredWait(header []string) time.Duration {
	for _, h := range header {
		for one := range strings.SplitSeq(h, ",") {
			one, _, _ = strings.Cut(one, ";") // parameters, which a wait has none of
			name, value, _ := strings.Cut(one, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			if n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 32); err == nil {
				return min(time.Duration(n)*time.Second, maxWait)
			}
		}
	}
	return 0
}

func wantsJSON(accept []string) bool {
	for _, a := range accept {
		if strings.Contains(a, "application/json") {
			return true
		}
	}
	return false
}
