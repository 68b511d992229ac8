package emulator

import (
	"encoding/json"
	"net/http"
	"strings"
)

// notProvided is what some clients put into the organization header that they
// do not use.
const notProvided = "not provided"

// trackerHandler serves the method of Tracker that proves an access, and some
// more:
// https://yandex.ru/support/tracker/en/get-user-info
func (e *Emulator) trackerHandler() http.Handler {
	mux := http.NewServeMux()
	myself := e.method(ServiceTracker, "myself", e.myself)
	mux.HandleFunc("GET /v3/myself", myself)
	mux.HandleFunc("GET /v2/myself", myself)
	e.trackerIssues(mux)
	mux.HandleFunc("/redirected", e.redirected(ServiceTracker))
	mux.HandleFunc("/", e.method(ServiceTracker, "other", func(w http.ResponseWriter, r *http.Request) {
		refuseTracker(w, r, http.StatusNotFound, "there is no such resource")
	}))
	return mux
}

func refuseTracker(w http.ResponseWriter, r *http.Request, status int, message string) {
	callOf(r.Context()).ended(message)
	b, _ := json.Marshal(struct {
		Errors   struct{} `json:"errors"`
		Messages []string `json:"errorMessages"`
		Status   int      `json:"statusCode"`
	}{Messages: []string{message}, Status: status})
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// trackerMessages are the texts of injected errors.
var trackerMessages = map[int]string{
	http.StatusUnauthorized:        "the token is invalid",
	http.StatusForbidden:           "you have no access to this organization",
	http.StatusTooManyRequests:     "too many requests",
	http.StatusInternalServerError: "internal error",
	http.StatusServiceUnavailable:  "the service is temporarily unavailable",
}

func (e *Emulator) myself(w http.ResponseWriter, r *http.Request) {
	a, ok := e.admitted(w, r)
	if !ok {
		return
	}
	callOf(r.Context()).ended("OK")
	writeJSON(w, http.StatusOK, trackerUser{
		Self: e.endpoints.Tracker + "/v2/users/" + a.Name, UID: a.uid, Login: a.Name,
		TrackerUID: a.uid, PassportUID: a.uid, CloudUID: a.ID, FirstName: a.Name, LastName: "Emulated",
		Display: a.Name + " Emulated", Email: a.Name + "@example.com", HasLicense: true,
	})
}

// admitted minds what was injected and tells whether Tracker lets the request in, and answers it if not.
func (e *Emulator) admitted(w http.ResponseWriter, r *http.Request) (Account, bool) {
	c := callOf(r.Context())
	switch {
	case c.does(KindError):
		status, message := c.fault.Status, c.fault.Message
		setDefault(&status, http.StatusInternalServerError)
		setDefault(&message, trackerMessages[status])
		setDefault(&message, "injected fault")
		setRetryAfter(w, c.fault.RetryAfter)
		refuseTracker(w, r, status, message)
		return Account{}, false
	case c.does(KindExpired):
		refuseTracker(w, r, http.StatusUnauthorized, "the token is expired")
		return Account{}, false
	}

	header := r.Header.Get("Authorization")
	kind, scheme := iamToken, "Bearer"
	if len(header) >= 6 && strings.EqualFold(header[:6], "OAuth ") {
		kind, scheme = oauthToken, "OAuth"
	}
	t, err := e.authenticate(header, scheme, kind)
	if err != nil {
		refuseTracker(w, r, http.StatusUnauthorized, err.Error())
		return Account{}, false
	}
	c.by(t.owner)
	if problem := wrongOrganization(r.Header, kind); problem != "" {
		refuseTracker(w, r, http.StatusForbidden, problem)
		return Account{}, false
	}
	a, _ := e.dir.account(t.owner)
	switch {
	case !a.Tracker:
		refuseTracker(w, r, http.StatusForbidden, "you have no access to this organization")
		return Account{}, false
	case kind == oauthToken && !strings.Contains(" "+t.scope, " tracker:"):
		refuseTracker(w, r, http.StatusForbidden, "the token lacks the permission tracker:read")
		return Account{}, false
	}
	return a, true
}

// trackerUser is the person or account that a token belongs to.
type trackerUser struct {
	Self        string `json:"self"`
	UID         int64  `json:"uid"`
	Login       string `json:"login"`
	TrackerUID  int64  `json:"trackerUid"`
	PassportUID int64  `json:"passportUid"`
	CloudUID    string `json:"cloudUid"`
	FirstName   string `json:"firstName"`
	LastName    string `json:"lastName"`
	Display     string `json:"display"`
	Email       string `json:"email"`
	External    bool   `json:"external"`
	HasLicense  bool   `json:"hasLicense"`
	Dismissed   bool   `json:"dismissed"`
}

// wrongOrganization says why the organization headers do not do: empty when
// they do. Of both, Cloud's wins when it carries an id. IAM tokens work with
// Cloud organizations only.
func wrongOrganization(h http.Header, kind tokenKind) string {
	value := func(name string) string {
		if v := strings.TrimSpace(h.Get(name)); !strings.EqualFold(v, notProvided) {
			return v
		}
		return ""
	}
	cloud, org := value("X-Cloud-Org-ID"), value("X-Org-ID")
	switch {
	case cloud == CloudOrgID:
		return ""
	case cloud != "":
		return "the organization in X-Cloud-Org-ID is not available, not ready or not found"
	case org == "":
		return "no organization is given: send X-Cloud-Org-ID or X-Org-ID"
	case org != OrgID || kind == iamToken:
		return "the organization in X-Org-ID is not available, not ready or not found"
	}
	return ""
}
