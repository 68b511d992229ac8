package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// The services, as faults and calls name them.
const (
	ServiceAPI           = "api"
	ServiceIAM           = "iam"
	ServiceMetadata      = "metadata"
	ServiceTokenExchange = "token_exchange"
	ServiceOAuth         = "oauth"
	ServiceTracker       = "tracker"
)

// methods are the calls that a fault may be limited to. "other" is whatever
// has no name of its own.
var methods = map[string][]string{
	ServiceAPI:           {"List", "Get", "other"},
	ServiceIAM:           {"Create", "CreateForServiceAccount", "Revoke", "other"},
	ServiceMetadata:      {"token", "other"},
	ServiceTokenExchange: {"token", "other"},
	ServiceOAuth:         {"token", "device_code", "authorize", "verification_code", "device", "other"},
	ServiceTracker:       {"myself", "issue", "issues", "attach", "attachment", "echo", "other"},
}

// The kinds of faults; the package documentation says what each does.
const (
	KindError     = "error"
	KindStatus    = "status"
	KindHang      = "hang"
	KindSlow      = "slow"
	KindLate      = "late"
	KindGarbage   = "garbage"
	KindEmpty     = "empty"
	KindHTML      = "html"
	KindRedirect  = "redirect"
	KindReset     = "reset"
	KindExpired   = "expired"
	KindSameToken = "same_token"
)

// kinds says which optional fields each kind takes.
var kinds = map[string]struct{ status, code, message, latency, retryAfter, location bool }{
	KindError:     {status: true, code: true, message: true, retryAfter: true},
	KindStatus:    {status: true, retryAfter: true},
	KindHang:      {},
	KindSlow:      {latency: true},
	KindLate:      {latency: true},
	KindGarbage:   {},
	KindEmpty:     {},
	KindHTML:      {},
	KindRedirect:  {status: true, location: true},
	KindReset:     {},
	KindExpired:   {},
	KindSameToken: {},
}

// Fault is something that goes wrong with calls of one service. Of several
// faults that fit a call, all that are slow apply, and the oldest other one.
type Fault struct {
	Service string
	// Method limits the fault to one method of the service; empty: all.
	Method string
	Kind   string
	// Status is the HTTP status of KindError, KindStatus (required there) and
	// KindRedirect.
	Status int
	// Code is the error's name for KindError: a gRPC code such as UNAVAILABLE
	// for iam and api, an OAuth error such as invalid_grant for token_exchange
	// and oauth.
	Code string
	// Message replaces the text of KindError.
	Message string
	// Count is how many calls are affected; 0: any number.
	Count int
	// For is how long calls are affected; 0: until cleared.
	For time.Duration
	// Latency is how much later KindSlow and KindLate answer; 0: 2s.
	Latency time.Duration
	// RetryAfter is what the client is told to wait, by KindError and KindStatus.
	RetryAfter time.Duration
	// Location is where KindRedirect leads; empty: /redirected of the same
	// service, which counts who comes ("tracker/redirected") and answers 200.
	Location string
}

// faultJSON is a Fault on the wire: durations are strings like "10s".
type faultJSON struct {
	Service    string `json:"service"`
	Method     string `json:"method,omitempty"`
	Kind       string `json:"kind"`
	Status     int    `json:"status,omitempty"`
	Code       string `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
	Count      int    `json:"count,omitempty"`
	For        string `json:"for,omitempty"`
	Latency    string `json:"latency,omitempty"`
	RetryAfter string `json:"retry_after,omitempty"`
	Location   string `json:"location,omitempty"`
}

// MarshalJSON writes what POST /faults takes.
func (f Fault) MarshalJSON() ([]byte, error) {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(faultJSON{
		f.Service, f.Method, f.Kind, f.Status, f.Code, f.Message, f.Count,
		text(f.For), text(f.Latency), text(f.RetryAfter), f.Location,
	})
}

// UnmarshalJSON reads what POST /faults takes; unknown fields are errors.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var j faultJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return err
	}
	*f = Fault{
		Service: j.Service, Method: j.Method, Kind: j.Kind, Status: j.Status, Code: j.Code,
		Message: j.Message, Count: j.Count, Location: j.Location,
	}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"for", j.For, &f.For}, {"latency", j.Latency, &f.Latency}, {"retry_after", j.RetryAfter, &f.RetryAfter}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil {
			return fmt.Errorf("%s: %q is not a duration such as \"10s\"", d.name, d.text)
		}
		*d.to = v
	}
	return nil
}

// validate says what of the fault makes no sense.
func (f Fault) validate() error {
	known, ok := methods[f.Service]
	if !ok {
		return fmt.Errorf("service %q: want one of %s", f.Service, names(methods))
	}
	takes, ok := kinds[f.Kind]
	if !ok {
		return fmt.Errorf("kind %q: want one of %s", f.Kind, names(kinds))
	}
	issues := f.Service != ServiceAPI && f.Service != ServiceTracker
	redirect := f.Kind == KindRedirect
	for _, c := range []struct {
		wrong bool
		what  string
	}{
		{f.Method != "" && !slices.Contains(known, f.Method), fmt.Sprintf("method %q: %s has %s", f.Method, f.Service, strings.Join(known, ", "))},
		{f.Kind == KindSameToken && !issues, "same_token: " + f.Service + " issues no tokens"},
		{f.Kind == KindExpired && f.Service == ServiceAPI, "expired: api issues no tokens"},
		{f.Status != 0 && !takes.status, "status: kind " + f.Kind + " has none"},
		{f.Status == 0 && f.Kind == KindStatus, "status: kind status needs one, such as 503"},
		{f.Status != 0 && (f.Status < 200 || f.Status > 599), fmt.Sprintf("status %d: want 200 to 599", f.Status)},
		{f.Status != 0 && redirect && http.StatusText(f.Status) == "" || redirect && f.Status != 0 && f.Status/100 != 3, fmt.Sprintf("status %d: a redirect wants 301, 302, 303, 307 or 308", f.Status)},
		{f.Status != 0 && f.Kind == KindError && f.Status < 400, fmt.Sprintf("status %d: an error wants 400 or more", f.Status)},
		{f.Code != "" && !takes.code, "code: kind " + f.Kind + " has none"},
		{f.Code != "" && (f.Service == ServiceMetadata || f.Service == ServiceTracker), "code: errors of " + f.Service + " have a status only"},
		{f.Message != "" && !takes.message, "message: kind " + f.Kind + " has none"},
		{f.Count < 0, fmt.Sprintf("count %d: want at least 1, or none for any number", f.Count)},
		{f.For < 0, fmt.Sprintf("for %s: want more than 0, or none for until cleared", f.For)},
		{f.Latency != 0 && !takes.latency, "latency: only kinds slow and late have one"},
		{f.Kind == KindLate && f.Service != ServiceOAuth, "late: only oauth answers late"},
		{f.Latency < 0, fmt.Sprintf("latency %s: want more than 0", f.Latency)},
		{f.RetryAfter != 0 && !takes.retryAfter, "retry_after: only kinds error and status have one"},
		{f.RetryAfter < 0, fmt.Sprintf("retry_after %s: want more than 0", f.RetryAfter)},
		{f.Location != "" && !takes.location, "location: only kind redirect has one"},
	} {
		if c.wrong {
			return errors.New(c.what)
		}
	}
	if f.Code != "" && (f.Service == ServiceIAM || f.Service == ServiceAPI) {
		if _, ok := parseCode(f.Code); !ok {
			return fmt.Errorf("code %q: want the name of a gRPC error, such as UNAVAILABLE", f.Code)
		}
	}
	return nil
}

// parseCode reads a gRPC code other than OK by its name.
func parseCode(name string) (codes.Code, bool) {
	var c codes.Code
	if err := c.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil || c == codes.OK {
		return codes.OK, false
	}
	return c, true
}

func names[T any](m map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
