package emulator

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// clientScopes are the permissions of the registered application.
var clientScopes = []string{"tracker:read", "tracker:write"}

// oauthServer is what Yandex OAuth remembers:
// https://yandex.com/dev/id/doc/en/
type oauthServer struct {
	e *Emulator

	mu      sync.Mutex
	codes   map[string]*confirmation
	devices map[string]*device // by device code
	refresh map[string]*refreshToken
}

// confirmation is a code that a person was shown after allowing access.
type confirmation struct {
	scope, redirect   string
	challenge, method string
	expires           time.Time
}

type refreshToken struct {
	scope   string
	used    bool
	usedAt  time.Time
	revoked bool
}

// Login is what an OAuth application gets when a person logs in.
type Login struct {
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token"`
	Expires      time.Time `json:"expires"`
}

func newOAuthServer(e *Emulator) *oauthServer {
	return &oauthServer{
		e: e, codes: map[string]*confirmation{}, devices: map[string]*device{}, refresh: map[string]*refreshToken{},
	}
}

// NewLogin logs the person in without any flow. An empty scope means all
// permissions of the application.
func (e *Emulator) NewLogin(scope string) Login {
	setDefault(&scope, strings.Join(clientScopes, " "))
	t, refresh := e.oauth.grant(&call{}, scope)
	return Login{t.value, refresh, t.expires.Round(0)}
}

// grant issues an access token and a refresh token to the person.
func (s *oauthServer) grant(c *call, scope string) (token, string) {
	e := s.e
	c.by(Person)
	t := e.tokens.issue(order{
		kind: oauthToken, owner: Person, scope: scope, lifetime: e.o.OAuthLifetime,
		same: c.does(KindSameToken), expired: c.does(KindExpired),
	}, e.now())
	value := "1:" + randomText(12) + ":" + randomText(42) + ":" + randomText(16)
	s.mu.Lock()
	s.forgetOld()
	s.refresh[value] = &refreshToken{scope: scope}
	s.mu.Unlock()
	e.tokens.rememberAlso(value)
	return t, value
}

// forgetOld drops what has ended: codes an hour ago (until then their fate is
// told), used refresh tokens a day ago, and refresh tokens beyond any sane number.
func (s *oauthServer) forgetOld() {
	now := s.e.now()
	if len(s.codes)+len(s.devices) > 1000 {
		maps.DeleteFunc(s.codes, func(_ string, c *confirmation) bool { return now.Sub(c.expires) > time.Hour })
		maps.DeleteFunc(s.devices, func(_ string, d *device) bool { return now.Sub(d.expires) > time.Hour })
	}
	if len(s.refresh) > 10_000 {
		maps.DeleteFunc(s.refresh, func(_ string, r *refreshToken) bool { return r.used && now.Sub(r.usedAt) > s.e.o.RefreshGrace })
	}
}

func (s *oauthServer) revokeRefresh(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.refresh[value]
	if r == nil {
		return false
	}
	r.revoked = true
	return true
}

func (e *Emulator) oauthHandler() http.Handler {
	s := e.oauth
	mux := http.NewServeMux()
	// Injected errors come before the service looks at the request.
	handle := func(pattern, method string, answer http.HandlerFunc) {
		mux.HandleFunc(pattern, e.method(ServiceOAuth, method, func(w http.ResponseWriter, r *http.Request) {
			if c := callOf(r.Context()); c.does(KindError) {
				injectedError(w, r, c.fault)
				return
			}
			answer(w, r)
		}))
	}
	handle("POST /token", "token", s.token)
	handle("POST /device/code", "device_code", s.deviceCode)
	handle("GET /authorize", "authorize", s.authorizePage)
	handle("POST /authorize", "authorize", s.authorizeDecision)
	handle("GET /verification_code", "verification_code", s.verificationPage)
	handle("GET /device", "device", s.devicePage)
	handle("POST /device", "device", s.deviceDecision)
	mux.HandleFunc("/redirected", e.redirected(ServiceOAuth))
	handle("/", "other", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, r, http.StatusNotFound, "invalid_request", "there is no such page")
	})
	return mux
}

// token is the token endpoint: https://yandex.com/dev/id/doc/en/codes/code-url
func (s *oauthServer) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.PostForm) == 0 {
		refuse(w, r, http.StatusBadRequest, "invalid_request", "the body is not an encoded form")
		return
	}
	form := r.PostForm
	if problem := wrongClient(r); problem != "" {
		refuse(w, r, http.StatusBadRequest, "invalid_client", problem)
		return
	}
	var scope, name, problem string
	switch form.Get("grant_type") {
	case "authorization_code":
		scope, name, problem = s.redeemCode(form)
	case "device_code":
		scope, name, problem = s.redeemDevice(form)
	case "refresh_token":
		scope, name, problem = s.redeemRefresh(form)
	case "":
		name, problem = "invalid_request", "grant_type is missing"
	default:
		name, problem = "unsupported_grant_type", "want authorization_code, device_code or refresh_token"
	}
	if name != "" {
		if name == "slow_down" {
			s.e.calls.add("oauth/slow_down")
		}
		refuse(w, r, http.StatusBadRequest, name, problem)
		return
	}
	c := callOf(r.Context())
	t, refresh := s.grant(c, scope)
	c.ended("OK")
	if c.does(KindLate) {
		s.e.holdBack(r, c)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, tokenAnswer{
		AccessToken: t.value, ExpiresIn: s.e.left(t), RefreshToken: refresh, Scope: scope, TokenType: "bearer",
	})
}

// wrongClient checks the application's id and secret, in Basic auth or form.
func wrongClient(r *http.Request) string {
	id, secret, basic := r.BasicAuth()
	if basic {
		// RFC 6749, 2.3.1: both are form-encoded inside.
		if v, err := url.QueryUnescape(id); err == nil {
			id = v
		}
		if v, err := url.QueryUnescape(secret); err == nil {
			secret = v
		}
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	switch {
	case id == "":
		return "client_id is missing"
	case id != ClientID:
		return "there is no application with this client_id"
	case subtle.ConstantTimeCompare([]byte(secret), []byte(ClientSecret)) != 1:
		return "the client_secret is wrong"
	}
	return ""
}

func (s *oauthServer) redeemCode(form url.Values) (scope, name, problem string) {
	code := form.Get("code")
	if len(code) != codeLength || strings.Trim(code, codeAlphabet) != "" {
		return "", "bad_verification_code", "the code is not one that this service gives"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.codes[code]
	switch {
	case c == nil:
		return "", "invalid_grant", "the code is unknown or was used"
	case !s.e.now().Before(c.expires):
		return "", "invalid_grant", "the code has expired"
	}
	delete(s.codes, code) // it works once, also when the rest is wrong
	if redirect := form.Get("redirect_uri"); redirect != "" && redirect != c.redirect {
		return "", "invalid_grant", "redirect_uri is not the one of the authorization"
	}
	if c.challenge != "" && pkceChallenge(form.Get("code_verifier"), c.method) != c.challenge {
		return "", "invalid_grant", "code_verifier does not fit code_challenge"
	}
	return c.scope, "", ""
}

// pkceChallenge is the challenge of a verifier (RFC 7636).
func pkceChallenge(verifier, method string) string {
	if method != "S256" {
		return verifier
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// redeemRefresh uses a refresh token up: the answer carries its successor.
func (s *oauthServer) redeemRefresh(form url.Values) (scope, name, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.e.now()
	r := s.refresh[form.Get("refresh_token")]
	switch {
	case r == nil:
		return "", "invalid_grant", "the refresh token is unknown"
	case r.revoked:
		return "", "invalid_grant", "the refresh token was revoked"
	case r.used && now.Sub(r.usedAt) >= s.e.o.RefreshGrace:
		return "", "invalid_grant", "the refresh token was used before"
	}
	if !r.used {
		r.used, r.usedAt = true, now
	}
	return r.scope, "", ""
}

// wantedScope reads the scope parameter: empty means all of the application's.
func wantedScope(text string) (scope string, ok bool) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		fields = clientScopes
	}
	for _, f := range fields {
		if f != clientScopes[0] && f != clientScopes[1] {
			return "", false
		}
	}
	return strings.Join(fields, " "), true
}
