package emulator

import (
	"net/http"
	"time"
)

// The names of RFC 8693 that the service wants:
// https://yandex.cloud/en/docs/iam/operations/wlif/setup-wlif
const (
	grantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccessToken    = "urn:ietf:params:oauth:token-type:access_token"
	typeIDToken        = "urn:ietf:params:oauth:token-type:id_token"
)

// tokenAnswer is what the token endpoints and the metadata service answer.
type tokenAnswer struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type,omitempty"`
	ExpiresIn       int64  `json:"expires_in"`
	RefreshToken    string `json:"refresh_token,omitempty"`
	Scope           string `json:"scope,omitempty"`
	TokenType       string `json:"token_type"`
}

// left is the rest of a token's life in whole seconds, never negative. One that
// was just issued has all of it, however long the machine took to answer: or a
// second one could seem to live no longer than the first.
func (e *Emulator) left(t token) int64 {
	now := e.now()
	if now.Before(t.issued.Add(time.Second)) {
		now = t.issued
	}
	return max(0, int64(t.expires.Sub(now)/time.Second))
}

// oauthError is the error body of RFC 6749.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// refuse answers with an OAuth error.
func refuse(w http.ResponseWriter, r *http.Request, httpStatus int, name, description string) {
	callOf(r.Context()).ended(name + ": " + description)
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, httpStatus, oauthError{name, description})
}

// injectedError answers as a KindError fault of token_exchange or oauth says.
func injectedError(w http.ResponseWriter, r *http.Request, f *Fault) {
	name, message, httpStatus := f.Code, f.Message, f.Status
	if httpStatus == 0 && name != "" {
		httpStatus = http.StatusBadRequest
	}
	setDefault(&httpStatus, http.StatusInternalServerError)
	if name == "" {
		switch {
		case httpStatus == http.StatusServiceUnavailable:
			name = "temporarily_unavailable"
		case httpStatus >= 500:
			name = "server_error"
		case httpStatus == http.StatusUnauthorized:
			name = "invalid_client"
		case httpStatus == http.StatusForbidden:
			name = "access_denied"
		case httpStatus == http.StatusTooManyRequests:
			name = "slow_down"
		default:
			name = "invalid_request"
		}
	}
	setDefault(&message, "injected fault")
	setRetryAfter(w, f.RetryAfter)
	refuse(w, r, httpStatus, name, message)
}

func (e *Emulator) exchangeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/token", e.method(ServiceTokenExchange, "token", e.exchange))
	mux.HandleFunc("/redirected", e.redirected(ServiceTokenExchange))
	mux.HandleFunc("/", e.method(ServiceTokenExchange, "other", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, http.StatusNotFound, "invalid_request", "there is only POST /oauth/token")
	}))
	return mux
}

// exchange gives an IAM token for a workload's OIDC token.
func (e *Emulator) exchange(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	if c.does(KindError) {
		injectedError(w, r, c.fault)
		return
	}
	if err := r.ParseForm(); err != nil || len(r.PostForm) == 0 {
		refuse(w, r, http.StatusBadRequest, "invalid_request", "the body is not an encoded form")
		return
	}
	form := r.PostForm
	switch {
	case form.Get("grant_type") != grantTokenExchange:
		refuse(w, r, http.StatusBadRequest, "unsupported_grant_type", "grant_type: want "+grantTokenExchange)
		return
	case form.Get("requested_token_type") != typeAccessToken:
		refuse(w, r, http.StatusBadRequest, "invalid_request", "requested_token_type: want "+typeAccessToken)
		return
	case form.Get("subject_token_type") != typeIDToken:
		refuse(w, r, http.StatusBadRequest, "invalid_request", "subject_token_type: want "+typeIDToken)
		return
	case form.Get("subject_token") == "":
		refuse(w, r, http.StatusBadRequest, "invalid_request", "subject_token is missing")
		return
	}
	subject, foreign, err := e.federation.verify(form.Get("subject_token"), e.now)
	if err != nil {
		refuse(w, r, http.StatusBadRequest, "invalid_request", err.Error())
		return
	}
	account := form.Get("audience")
	if !e.dir.alive(account) {
		refuse(w, r, http.StatusBadRequest, "invalid_target", "audience: service account "+cut(account)+" does not exist")
		return
	}
	linked := e.dir.linkedAccount(subject)
	if linked != account && (linked != "" || !foreign) {
		refuse(w, r, http.StatusBadRequest, "invalid_target", "the subject is not linked to service account "+cut(account))
		return
	}
	t := e.issue(c, account, "")
	c.ended("OK")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, tokenAnswer{
		AccessToken: t.value, IssuedTokenType: typeAccessToken, ExpiresIn: e.left(t), TokenType: "Bearer",
	})
}
