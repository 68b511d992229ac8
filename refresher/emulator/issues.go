package emulator

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// issuesPages is how many pages the list of issues has.
const issuesPages = 3

// trackerIssues serves a little more of Tracker, to try clients and proxies
// on: https://yandex.ru/support/tracker/en/concepts/issues/get-issue and beside
// it. What is attached is counted and forgotten. /v3/echo is not Tracker's: it
// gives back what it reads, as it comes.
func (e *Emulator) trackerIssues(mux *http.ServeMux) {
	for pattern, m := range map[string]struct {
		name   string
		answer http.HandlerFunc
	}{
		"GET /v3/issues/{key}":                         {"issue", e.oneIssue},
		"GET /v3/issues":                               {"issues", e.issues},
		"POST /v3/issues/{key}/attachments":            {"attach", e.attach},
		"POST /v3/issues/{key}/attachments/{$}":        {"attach", e.attach},
		"GET /v3/issues/{key}/attachments/{id}/{name}": {"attachment", e.attachment},
		"POST /v3/echo":                                {"echo", e.echo},
	} {
		mux.HandleFunc(pattern, e.streaming(ServiceTracker, m.name, func(w http.ResponseWriter, r *http.Request) {
			if problem := unexpected(r.Header); problem != "" {
				refuseTracker(w, r, http.StatusBadRequest, problem)
				return
			}
			if _, ok := e.admitted(w, r); ok {
				callOf(r.Context()).ended("OK")
				m.answer(w, r)
			}
		}, false))
	}
}

// unexpected says what a client of these methods has no business to send: a
// proxy that lets it through mixes up who asks.
func unexpected(h http.Header) string {
	for _, name := range []string{"Cookie", "Forwarded", "Proxy-Authorization"} {
		if len(h[name]) > 0 {
			return "unexpected header " + name
		}
	}
	org := 0
	for name, values := range h {
		switch {
		case strings.HasPrefix(name, "X-Forwarded-"):
			return "unexpected header " + name
		case name == "Authorization" && len(values) > 1:
			return "more than one header Authorization"
		case strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Org-ID"), strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Cloud-Org-ID"):
			org += len(values)
		}
	}
	if org > 1 {
		return "more than one organization"
	}
	return ""
}

func (e *Emulator) oneIssue(w http.ResponseWriter, r *http.Request) {
	key := cut(r.PathValue("key"))
	writeJSON(w, http.StatusOK, map[string]string{
		"self": e.endpoints.Tracker + "/v3/issues/" + key, "key": key, "summary": "An issue of the emulator",
	})
}

func (e *Emulator) issues(w http.ResponseWriter, r *http.Request) {
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	if page < issuesPages {
		w.Header().Add("Link", fmt.Sprintf(`<%s/v3/issues?page=%d>; rel="next"`, e.endpoints.Tracker, page+1))
	}
	w.Header().Set("X-Total-Pages", strconv.Itoa(issuesPages))
	writeJSON(w, http.StatusOK, []map[string]string{{"key": fmt.Sprintf("TEST-%d", page)}})
}

func (e *Emulator) attach(w http.ResponseWriter, r *http.Request) {
	size, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client left
	}
	writeJSON(w, http.StatusCreated, map[string]any{"id": "1", "size": size})
}

// attachment is as many zeros as ?size= says, as fast as they are taken.
func (e *Emulator) attachment(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	if err != nil || size < 0 {
		refuseTracker(w, r, http.StatusNotFound, "there is no such attachment: give its size")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (e *Emulator) echo(w http.ResponseWriter, r *http.Request) {
	stream := http.NewResponseController(w)
	_ = stream.EnableFullDuplex() // HTTP/2 is so anyway
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	_ = stream.Flush()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil || stream.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
