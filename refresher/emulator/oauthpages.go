package emulator

import (
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	codeLength   = 16
	codeAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
)

// randomCode makes a code that people can type.
func randomCode(n int) string {
	b := randomBytes(n)
	for i := range b {
		b[i] = codeAlphabet[b[i]%byte(len(codeAlphabet))]
	}
	return string(b)
}

const authorizeForm = `<form method="post">
<button name="decision" value="approve">Allow</button>
<button name="decision" value="deny">Deny</button>
</form>
<p>Without a browser: <code>curl --cacert ca.pem -d decision=approve "$URL"</code></p>`

// showFragment copies a debug token to the page from the part of the address
// that only the browser knows.
const showFragment = `<p><code id="token"></code></p>
<script>document.getElementById("token").textContent =
new URLSearchParams(location.hash.slice(1)).get("access_token")</script>`

// writePage answers with a page for people; body is HTML.
func writePage(w http.ResponseWriter, r *http.Request, status int, title, body string) {
	callOf(r.Context()).ended(http.StatusText(status))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	title = html.EscapeString(title)
	_, _ = fmt.Fprintf(w, "<!DOCTYPE html>\n<html><head><title>%s</title></head><body>\n<h1>%s</h1>\n%s\n</body></html>\n", title, title, body)
}

// writeValue is writePage for something that the person is to copy.
func writeValue(w http.ResponseWriter, r *http.Request, status int, title, value string) {
	writePage(w, r, status, title, `<p><code id="value">`+html.EscapeString(value)+`</code></p>`)
}

// authorization is a checked request of the authorization page.
type authorization struct {
	implicit          bool
	scope, redirect   string
	state             string
	challenge, method string
}

// readAuthorization checks the query, which the person's browser brings along.
func (s *oauthServer) readAuthorization(q url.Values) (a authorization, name, problem string) {
	scope, ok := wantedScope(q.Get("scope"))
	a = authorization{
		scope: scope, redirect: q.Get("redirect_uri"), state: q.Get("state"),
		challenge: q.Get("code_challenge"), method: q.Get("code_challenge_method"),
	}
	setDefault(&a.redirect, s.e.endpoints.OAuth+"/verification_code")
	setDefault(&a.method, "plain")
	switch {
	case q.Get("client_id") != ClientID:
		return a, "invalid_client", "there is no application with this client_id"
	case !s.mayRedirect(a.redirect):
		return a, "redirect_uri_mismatch", "redirect_uri is not one of the application's"
	case !ok:
		return a, "invalid_scope", "the application does not have these permissions"
	case a.method != "plain" && a.method != "S256":
		return a, "invalid_request", "code_challenge_method: want S256 or plain"
	}
	switch q.Get("response_type") {
	case "code":
	case "token":
		a.implicit = true
	default:
		return a, "unsupported_response_type", "response_type: want code or token"
	}
	return a, "", ""
}

// mayRedirect: the application is registered with the verification page and
// with every port of a loopback address (RFC 8252, 7.3).
func (s *oauthServer) mayRedirect(to string) bool {
	if to == "https://oauth.yandex.com/verification_code" || to == s.e.endpoints.OAuth+"/verification_code" {
		return true
	}
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *oauthServer) authorizePage(w http.ResponseWriter, r *http.Request) {
	a, name, problem := s.readAuthorization(r.URL.Query())
	if name != "" {
		writeValue(w, r, http.StatusBadRequest, "This request is wrong: "+problem, name)
		return
	}
	writePage(w, r, http.StatusOK, "Application "+ClientID+" asks for "+a.scope, authorizeForm)
}

// authorizeDecision is the person pressing a button on the authorization page.
func (s *oauthServer) authorizeDecision(w http.ResponseWriter, r *http.Request) {
	a, name, problem := s.readAuthorization(r.URL.Query())
	decision := Decision(r.PostFormValue("decision"))
	if name == "" && decision != Approve && decision != Deny {
		name, problem = "invalid_request", "decision: want approve or deny"
	}
	if name != "" {
		writeValue(w, r, http.StatusBadRequest, "This request is wrong: "+problem, name)
		return
	}
	c := callOf(r.Context())
	answer := url.Values{}
	if a.state != "" {
		answer.Set("state", a.state)
	}
	switch {
	case decision == Deny:
		answer.Set("error", "access_denied")
		answer.Set("error_description", "the person denied the access")
	case a.implicit:
		t, _ := s.grant(c, a.scope)
		answer.Set("access_token", t.value)
		answer.Set("token_type", "bearer")
		answer.Set("expires_in", strconv.FormatInt(s.e.left(t), 10))
	default:
		code := randomCode(codeLength)
		s.mu.Lock()
		s.forgetOld()
		s.codes[code] = &confirmation{
			scope: a.scope, redirect: a.redirect, challenge: a.challenge, method: a.method,
			expires: s.e.now().Add(s.e.o.DeviceLifetime),
		}
		s.mu.Unlock()
		s.e.tokens.rememberAlso(code)
		answer.Set("code", code)
	}
	to := a.redirect
	if to == "https://oauth.yandex.com/verification_code" {
		to = s.e.endpoints.OAuth + "/verification_code"
	}
	separator := "?"
	if a.implicit {
		separator = "#"
	} else if strings.Contains(to, "?") {
		separator = "&"
	}
	c.ended("OK: " + string(decision))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to+separator+answer.Encode())
	w.WriteHeader(http.StatusFound)
}

// verificationPage shows a confirmation code or a debug token.
func (s *oauthServer) verificationPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case q.Get("code") != "":
		writeValue(w, r, http.StatusOK, "Enter this code in the application", q.Get("code"))
	case q.Get("error") != "":
		writeValue(w, r, http.StatusOK, "No access was given", q.Get("error"))
	default:
		writePage(w, r, http.StatusOK, "Copy this token", showFragment)
	}
}
