package sink

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"iam-token-refresher/refresher"
)

// The values of headers that never change, made once: these slices are shared
// by all answers and only read.
var (
	typeText = []string{"text/plain; charset=utf-8"}
	typeJSON = []string{"application/json"}
	noStore  = []string{"no-store"}
	google   = []string{"Google"}
)

// problem is the body of every answer that is not what was asked for.
type problem struct {
	Error  string           `json:"error"`  // one stable word
	Reason string           `json:"reason"` // for people
	State  refresher.Health `json:"state,omitempty"`
}

func writeJSON(w http.ResponseWriter, code int, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		code, b = http.StatusInternalServerError, []byte(`{"error":"internal","reason":"the answer cannot be written as JSON"}`)
	}
	b = append(b, '\n')
	h := w.Header()
	h["Content-Type"] = typeJSON
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(code)
	_, _ = w.Write(b)
}

// notFound is the same for what does not exist and for what the peer may not
// know of.
func notFound(w http.ResponseWriter) {
	writeJSON(w, http.StatusNotFound, problem{Error: "not_found", Reason: "there is no such token or route, or it is not for you"})
}

// refuseMethod answers what is not one of the allowed methods and tells whether
// it did.
func refuseMethod(w http.ResponseWriter, r *http.Request, allowed ...string) bool {
	for _, m := range allowed {
		if r.Method == m {
			return false
		}
	}
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	writeJSON(w, http.StatusMethodNotAllowed, problem{Error: "method_not_allowed", Reason: "use " + list})
	return true
}

// unavailable says why there is nothing to give, and when to come back.
func unavailable(w http.ResponseWriter, st refresher.Status, now time.Time) {
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter(st, now)))
	writeJSON(w, http.StatusServiceUnavailable, problem{Error: "unavailable", State: st.HealthAt(now), Reason: missing(st, now)})
}

// missing says why there is no value to give, for people.
func missing(st refresher.Status, now time.Time) string {
	reason := "there is no value yet"
	switch st.HealthAt(now) {
	case refresher.Revoked:
		reason = "the value was revoked and there is no other yet"
	case refresher.Expired:
		reason = "the value has expired and there is no other yet"
	}
	if why := st.Obstacle(); why != "" {
		return reason + ": " + why
	}
	return reason
}

// retryAfter is seconds until something is planned, 1 to 60.
func retryAfter(st refresher.Status, now time.Time) int {
	next := st.NextRefresh
	if next.IsZero() || !st.NextProbe.IsZero() && st.NextProbe.Before(next) {
		next = st.NextProbe
	}
	if next.IsZero() {
		return 10
	}
	left := next.Sub(now)
	return int(min(max((left+time.Second-1)/time.Second, 1), 60))
}

// writeValue answers with the raw value.
func writeValue(w http.ResponseWriter, v *held) {
	h := w.Header()
	h["Content-Type"] = typeText
	h["Cache-Control"] = noStore
	h["Etag"] = v.etag
	h["Content-Length"] = v.length
	_, _ = io.WriteString(w, v.v.Value.Reveal())
}

// writeDocument answers with all that is known about the value.
func writeDocument(w http.ResponseWriter, v *held, st refresher.Status, now time.Time) {
	doc := struct {
		Name        string             `json:"name"`
		Value       string             `json:"value"`
		Type        string             `json:"type"`
		ExpiresAt   *time.Time         `json:"expires_at"`
		ExpiresIn   *int64             `json:"expires_in"`
		Lineage     string             `json:"lineage"`
		Version     uint64             `json:"version"`
		PublishedAt *time.Time         `json:"published_at"`
		VerifiedAt  *time.Time         `json:"verified_at"`
		Verdict     *refresher.Verdict `json:"verdict"`
	}{
		Name: v.v.Token, Value: v.v.Value.Reveal(), Type: v.v.Type,
		ExpiresAt: seconds(v.v.ExpiresAt), Lineage: v.v.Lineage, Version: v.v.N, PublishedAt: seconds(v.v.PublishedAt),
	}
	if !v.v.ExpiresAt.IsZero() {
		left := secondsLeft(v.v.ExpiresAt, now)
		doc.ExpiresIn = &left
	}
	// The snapshot may be about another version.
	if st.Version != nil && st.Version.N == v.v.N && st.Version.Lineage == v.v.Lineage {
		doc.VerifiedAt, doc.Verdict = seconds(st.VerifiedAt), &st.Proof.Verdict
	}
	w.Header()["Etag"] = v.etag
	writeJSON(w, http.StatusOK, doc)
}

func secondsLeft(end, now time.Time) int64 { return int64(max(end.Sub(now), 0) / time.Second) }

// unknownLeft is what the metadata routes say of a value whose end nobody
// knows: clients come back soon.
const unknownLeft = 60

// writeMetadata answers as the metadata service of the cloud does,
// https://yandex.cloud/en/docs/compute/operations/vm-metadata/get-vm-metadata.
func writeMetadata(w http.ResponseWriter, v *held, now time.Time) {
	left := int64(unknownLeft)
	if !v.v.ExpiresAt.IsZero() {
		left = secondsLeft(v.v.ExpiresAt, now)
	}
	b := make([]byte, 0, v.v.Value.Len()+80)
	b = append(b, `{"access_token":`...)
	b = appendJSONString(b, v.v.Value.Reveal())
	b = append(b, `,"expires_in":`...)
	b = strconv.AppendInt(b, left, 10)
	b = append(b, `,"token_type":"Bearer"}`...)
	h := w.Header()
	h["Content-Type"] = typeJSON
	h["Cache-Control"] = noStore
	h["Metadata-Flavor"] = google
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	_, _ = w.Write(b)
}

func appendJSONString(b []byte, s string) []byte {
	if plain(s) {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	q, _ := json.Marshal(s) // a string always marshals
	return append(b, q...)
}
