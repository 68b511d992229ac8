package sink

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/peer"
	"iam-token-refresher/sink/turns"
)

const (
	tokensPath  = "/v1/tokens"
	reloadPath  = "/v1/reload"
	servicePath = "/computeMetadata/v1/instance/service-accounts/"
)

// route knows all routes of the socket.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, tokensPath+"/"); ok {
		name, action, deeper := strings.Cut(rest, "/")
		switch {
		case !deeper:
			s.getToken(w, r, name)
		case action == "report":
			s.report(w, r, name)
		case action == "refresh":
			s.refresh(w, r, name)
		default:
			notFound(w)
		}
		return
	}
	if name, ok := serviceName(path); ok {
		s.getService(w, r, name, turns.ConnOf(r.Context()).Peer())
		return
	}
	switch path {
	case tokensPath:
		s.list(w, r)
	case reloadPath:
		s.reload(w, r)
	default:
		notFound(w)
	}
}

func serviceName(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, servicePath)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(rest, "/token")
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// getService is the route of the cloud's metadata service; p is nil on TCP,
// where nobody knows who asks.
func (h *hub) getService(w http.ResponseWriter, r *http.Request, name string, p *peer.Peer) {
	if refuseMethod(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	if r.Header.Get("Metadata-Flavor") != "Google" {
		writeJSON(w, http.StatusForbidden, problem{Error: "forbidden", Reason: "send the header Metadata-Flavor: Google"})
		return
	}
	e := h.table.Load().findOrDefault(name, p)
	if e == nil {
		notFound(w)
		return
	}
	v, st, now := e.current(&h.live)
	switch {
	case v == nil:
		e.count(readUnavailable)
		unavailable(w, st, now)
	case v.v.Type == refresher.TypeOAuth:
		if h.noted.Now() {
			h.log.Warn("asked for an OAuth token on a metadata route, which offers IAM tokens only: read it from "+tokensPath+"/"+e.token, "token", e.token)
		}
		notFound(w)
	default:
		e.count(readOK)
		writeMetadata(w, v, now)
	}
}

// list shows the tokens that the peer may read.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	if refuseMethod(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	c := turns.ConnOf(r.Context())
	t := s.table.Load()
	now := s.live.Now()
	readable := []refresher.Status{}
	for _, name := range t.names() {
		if !t.byName[name].allow.admits(c.Peer()) {
			continue
		}
		st, ok := s.live.Snapshot(name)
		if !ok {
			st = refresher.Status{Token: name, Health: refresher.Pending}
		}
		readable = append(readable, st)
	}
	writeJSON(w, http.StatusOK, s.live.Describe(readable, now))
}

// refusePeer answers peers that may not give orders.
func refusePeer(w http.ResponseWriter, c *turns.Conn) bool {
	if c.Peer().Admin() {
		return false
	}
	writeJSON(w, http.StatusForbidden, problem{Error: "forbidden", Reason: "only root and the user that the daemon runs as may do this"})
	return true
}

// reload answers with what the daemon says of its new configuration.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if refuseMethod(w, r, http.MethodPost) || refusePeer(w, turns.ConnOf(r.Context())) {
		return
	}
	if s.live.Reload == nil {
		notFound(w)
		return
	}
	summary, err := s.live.Reload(r.Context())
	moreTime(w)
	if err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, problem{Error: "refused", Reason: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, outcome{Result: "reloaded", Reason: summary})
}

// outcome is the answer to an order that was carried out.
type outcome struct {
	Result string `json:"result"`
	Reason string `json:"reason"`
	// ETag is the current version's, after a report.
	ETag string `json:"etag,omitempty"`
}

// refresh answers when the refresh has ended.
func (s *Server) refresh(w http.ResponseWriter, r *http.Request, name string) {
	if refuseMethod(w, r, http.MethodPost) {
		return
	}
	c := turns.ConnOf(r.Context())
	e := s.table.Load().find(name, c.Peer())
	if e == nil || s.live.Refresh == nil {
		notFound(w)
		return
	}
	if refusePeer(w, c) {
		return
	}
	result, reason, err := s.live.Refresh(r.Context(), e.token)
	moreTime(w)
	switch {
	case err != nil:
		writeJSON(w, http.StatusServiceUnavailable, problem{Error: "unavailable", Reason: err.Error()})
	case result == refresher.ResultFailed || result == refresher.ResultRejected:
		writeJSON(w, http.StatusBadGateway, outcome{Result: string(result), Reason: reason})
	default:
		writeJSON(w, http.StatusOK, outcome{Result: string(result), Reason: reason})
	}
}

// moreTime lets an answer that took long be written.
func moreTime(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(turns.AnswerTimeout))
}

// reportEvery is how often reports about one version are passed on: the daemon
// probes every 10 s at most anyway.
const reportEvery = time.Second

// report takes a reader's word that a version gave it a 401.
func (s *Server) report(w http.ResponseWriter, r *http.Request, name string) {
	if refuseMethod(w, r, http.MethodPost) {
		return
	}
	e := s.table.Load().find(name, turns.ConnOf(r.Context()).Peer())
	if e == nil {
		notFound(w)
		return
	}
	etag, err := reportedETag(w, r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, problem{Error: "bad_request", Reason: err.Error()})
		return
	}
	v := e.held.Load().v
	if st, ok := s.live.Snapshot(e.token); ok && st.Version != nil && (v.Lineage != st.Version.Lineage || v.N < st.Version.N) {
		v = *st.Version
	}
	switch {
	case v.N == 0:
		writeJSON(w, http.StatusOK, outcome{Result: "outdated", Reason: "there is no version now"})
	case etag != v.ETag():
		writeJSON(w, http.StatusOK, outcome{Result: "outdated", Reason: "that is not the current version: read the token again", ETag: v.ETag()})
	default:
		e.passOn(&s.live, v)
		writeJSON(w, http.StatusAccepted, outcome{Result: "probing", Reason: "the value is tried now, at most every 10 s", ETag: v.ETag()})
	}
}

func (e *Endpoint) passOn(live *Live, v refresher.Version) {
	etag := v.ETag()
	now := live.Now().UnixMilli()
	last, about := e.reportedAt.Load(), e.reported.Load()
	if about != nil && *about == etag && now >= last && now-last < reportEvery.Milliseconds() {
		return
	}
	e.reported.Store(&etag)
	e.reportedAt.Store(now)
	if live.Report != nil {
		live.Report(v.Token, v.Lineage, v.N)
	}
}

// reportedETag finds the ETag in the header If-Match or in a body
// {"etag": "…"}, as the socket gave it, with quotes or without.
func reportedETag(w http.ResponseWriter, r *http.Request) (string, error) {
	etag := r.Header.Get("If-Match")
	if etag == "" {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var doc struct {
			ETag string `json:"etag"`
		}
		if err != nil || len(body) > 0 && json.Unmarshal(body, &doc) != nil {
			return "", errors.New(`the body is not {"etag": "…"}`)
		}
		etag = doc.ETag
	}
	etag = strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
	if etag == "" {
		return "", errors.New(`say which version was refused: If-Match: "<ETag>", or a body {"etag": "…"}`)
	}
	return etag, nil
}
