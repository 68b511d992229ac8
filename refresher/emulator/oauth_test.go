package emulator_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// token posts to the token endpoint with the right client id and secret.
func (c *cloud) token(pairs ...string) answer {
	c.t.Helper()
	form := url.Values{"client_id": {emulator.ClientID}, "client_secret": {emulator.ClientSecret}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return c.must("POST", c.Endpoints().OAuth+"/token", form.Encode(), formType)
}

func (a answer) text(t *testing.T, field string) string {
	t.Helper()
	s, _ := a.json(t)[field].(string)
	return s
}

func (c *cloud) asPerson(value string) answer {
	c.t.Helper()
	return c.must("GET", c.Endpoints().Tracker+"/v3/myself", "", "Authorization: OAuth "+value, numberOrg)
}

// decide is the person pressing a button on the authorization page.
func (c *cloud) decide(query url.Values, decision string) answer {
	c.t.Helper()
	address := c.Endpoints().OAuth + "/authorize?" + query.Encode()
	wantStatus(c.t, c.must("GET", address, ""), 200, "tracker:read")
	return c.must("POST", address, "decision="+decision, formType)
}

func TestRefreshTokensAreRotated(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{OAuthLifetime: time.Hour})
	login := c.NewLogin("")
	a := c.token("grant_type", "refresh_token", "refresh_token", login.RefreshToken)
	wantStatus(t, a, 200, `"token_type":"bearer"`)
	if left := a.json(t)["expires_in"].(float64); left < 3590 || left > 3600 {
		t.Errorf("expires_in %v, want 3600", left)
	}
	if a.text(t, "refresh_token") == login.RefreshToken || a.text(t, "access_token") == login.AccessToken {
		t.Error("the tokens are not new")
	}
	wantStatus(t, c.asPerson(a.text(t, "access_token")), 200, emulator.Person)
	wantStatus(t, c.token("grant_type", "refresh_token", "refresh_token", login.RefreshToken), 400, "invalid_grant")

	next := c.token("grant_type", "refresh_token", "refresh_token", a.text(t, "refresh_token"))
	wantStatus(t, next, 200, "refresh_token")
	if !c.Revoke(next.text(t, "refresh_token")) {
		t.Error("a refresh token cannot be revoked")
	}
	wantStatus(t, c.token("grant_type", "refresh_token", "refresh_token", next.text(t, "refresh_token")), 400, "invalid_grant")
	wantStatus(t, c.token("grant_type", "refresh_token", "refresh_token", "rubbish"), 400, "invalid_grant")
}

func TestAUsedRefreshTokenWorksDuringItsGrace(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{RefreshGrace: time.Minute})
	old := c.NewLogin("").RefreshToken
	for range 2 {
		wantStatus(t, c.token("grant_type", "refresh_token", "refresh_token", old), 200, "access_token")
	}
	if err := c.SetClockOffset(2 * time.Minute); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.token("grant_type", "refresh_token", "refresh_token", old), 400, "invalid_grant")
}

func TestTheTokenEndpointKnowsItsClient(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	post := func(form string, headers ...string) answer {
		return c.must("POST", c.Endpoints().OAuth+"/token", form, append(headers, formType)...)
	}
	basic := func(id, secret string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
	}
	grant := "grant_type=refresh_token&refresh_token="
	wantStatus(t, post(grant+url.QueryEscape(c.NewLogin("").RefreshToken), basic(emulator.ClientID, emulator.ClientSecret)), 200, "access_token")
	wantStatus(t, post(grant+"x", basic(emulator.ClientID, "wrong")), 400, "invalid_client")
	wantStatus(t, post(grant+"x", basic("wrong", emulator.ClientSecret)), 400, "invalid_client")
	wantStatus(t, post(grant+"x"), 400, "invalid_client")
	wantStatus(t, post(grant+"x&client_id="+emulator.ClientID+"&client_secret=wrong"), 400, "invalid_client")
	wantStatus(t, post(""), 400, "invalid_request")
	wantStatus(t, c.token("grant_type", "password"), 400, "unsupported_grant_type")
	wantStatus(t, c.token(), 400, "invalid_request")
	if secret := strings.TrimSpace(c.read("oauth.secret")); secret != emulator.ClientSecret {
		t.Errorf("oauth.secret has %q", secret)
	}
}

func TestTheDeviceFlow(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{DeviceInterval: 2 * time.Second, DeviceLifetime: time.Hour})
	now := time.Duration(0)
	later := func(d time.Duration) {
		now += d
		if err := c.SetClockOffset(now); err != nil {
			t.Fatal(err)
		}
	}
	begin := func() (device, user string) {
		a := c.must("POST", c.Endpoints().OAuth+"/device/code", "client_id="+emulator.ClientID, formType)
		wantStatus(t, a, 200, `"interval":2`)
		wantStatus(t, a, 200, `"expires_in":3600`)
		wantStatus(t, c.must("GET", a.text(t, "verification_url"), ""), 200, "user_code")
		return a.text(t, "device_code"), a.text(t, "user_code")
	}
	poll := func(device string) answer { return c.token("grant_type", "device_code", "code", device) }

	device, user := begin()
	wantStatus(t, poll(device), 400, "authorization_pending")
	later(2 * time.Second)
	wantStatus(t, poll(device), 400, "authorization_pending")
	wantStatus(t, poll(device), 400, "slow_down")
	later(3 * time.Second)
	wantStatus(t, poll(device), 400, "slow_down") // the interval is 7 s now, 12 s from here
	if n := c.Calls()["oauth/slow_down"]; n != 2 {
		t.Errorf("%d early polls were counted, want 2", n)
	}
	if pending := c.PendingDevices(); len(pending) != 1 || pending[0] != user {
		t.Errorf("pending: %v, want %s", pending, user)
	}
	later(12 * time.Second)
	wantStatus(t, c.must("POST", c.Endpoints().OAuth+"/device", "user_code="+strings.ToUpper(user)+"&decision=approve", formType), 200, "Done")
	a := poll(device)
	wantStatus(t, a, 200, "refresh_token")
	wantStatus(t, c.asPerson(a.text(t, "access_token")), 200, emulator.Person)
	later(12 * time.Second)
	wantStatus(t, poll(device), 400, "invalid_grant") // once
	wantStatus(t, poll("rubbish"), 400, "invalid_grant")

	for decision, want := range map[emulator.Decision]string{emulator.Deny: "access_denied", emulator.Expire: "expired_token"} {
		device, user := begin()
		if err := c.DecideDevice(user, decision); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, poll(device), 400, want)
		if c.DecideDevice(user, emulator.Approve) == nil {
			t.Error("a decision can be changed")
		}
	}
	device, user = begin()
	later(2 * time.Hour)
	wantStatus(t, poll(device), 400, "expired_token")
	if c.DecideDevice(user, emulator.Approve) == nil || c.DecideDevice("nonsense", emulator.Deny) == nil || c.DecideDevice(user, "maybe") == nil {
		t.Error("a wrong decision was accepted")
	}
	wantStatus(t, c.must("POST", c.Endpoints().OAuth+"/device", "user_code=nonsense&decision=approve", formType), 400, "no device")
	wantStatus(t, c.must("POST", c.Endpoints().OAuth+"/device/code", "client_id=other", formType), 400, "invalid_client")
	wantStatus(t, c.must("POST", c.Endpoints().OAuth+"/device/code", "scope=disk&client_id="+emulator.ClientID, formType), 400, "invalid_scope")
}

func TestTheConfirmationCodeWithPKCE(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	const verifier = "a-verifier-of-forty-three-characters-or-more"
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {emulator.ClientID}, "scope": {"tracker:read"}, "state": {"s t&te"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"redirect_uri": {"http://127.0.0.1:4242/done?x=1"},
	}
	code := func() string {
		a := c.decide(query, "approve")
		to, err := url.Parse(a.header.Get("Location"))
		if a.status != http.StatusFound || err != nil || to.Host != "127.0.0.1:4242" || to.Path != "/done" ||
			to.Query().Get("state") != "s t&te" || to.Query().Get("x") != "1" {
			t.Fatalf("redirected with %d to %s", a.status, to)
		}
		return to.Query().Get("code")
	}
	first := code()
	a := c.token("grant_type", "authorization_code", "code", first, "code_verifier", verifier)
	wantStatus(t, a, 200, `"scope":"tracker:read"`)
	wantStatus(t, c.asPerson(a.text(t, "access_token")), 200, "uid")
	wantStatus(t, c.token("grant_type", "authorization_code", "code", first, "code_verifier", verifier), 400, "invalid_grant")
	wantStatus(t, c.token("grant_type", "authorization_code", "code", code(), "code_verifier", "wrong"), 400, "code_verifier")
	wantStatus(t, c.token("grant_type", "authorization_code", "code", code()), 400, "code_verifier")
	wantStatus(t, c.token("grant_type", "authorization_code", "code", code(), "code_verifier", verifier, "redirect_uri", "http://localhost/"), 400, "redirect_uri")
	wantStatus(t, c.token("grant_type", "authorization_code", "code", "not a code"), 400, "bad_verification_code")
	wantStatus(t, c.token("grant_type", "authorization_code", "code", strings.Repeat("a", 16)), 400, "invalid_grant")

	late := code()
	if err := c.SetClockOffset(11 * time.Minute); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.token("grant_type", "authorization_code", "code", late, "code_verifier", verifier), 400, "expired")

	if to := c.decide(query, "deny").header.Get("Location"); !strings.Contains(to, "error=access_denied") || !strings.Contains(to, "state=") {
		t.Errorf("denied, redirected to %s", to)
	}
}

func TestTheCodeAndTheDebugTokenAreShownToThePerson(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	query := url.Values{"response_type": {"code"}, "client_id": {emulator.ClientID}}
	to := c.decide(query, "approve").header.Get("Location")
	u, _ := url.Parse(to)
	wantStatus(t, c.must("GET", to, ""), 200, u.Query().Get("code"))
	wantStatus(t, c.token("grant_type", "authorization_code", "code", u.Query().Get("code")), 200, "access_token")

	query.Set("response_type", "token")
	u, _ = url.Parse(c.decide(query, "approve").header.Get("Location"))
	fragment, _ := url.ParseQuery(u.Fragment)
	wantStatus(t, c.asPerson(fragment.Get("access_token")), 200, "uid")
	wantStatus(t, c.must("GET", u.String(), ""), 200, "location.hash")

	for name, bend := range map[string]func(url.Values){
		"client":        func(q url.Values) { q.Set("client_id", "other") },
		"redirect":      func(q url.Values) { q.Set("redirect_uri", "https://evil.invalid/") },
		"scope":         func(q url.Values) { q.Set("scope", "disk:read") },
		"response type": func(q url.Values) { q.Set("response_type", "x") },
		"challenge":     func(q url.Values) { q.Set("code_challenge_method", "S512") },
	} {
		q := url.Values{"response_type": {"code"}, "client_id": {emulator.ClientID}}
		bend(q)
		address := c.Endpoints().OAuth + "/authorize?" + q.Encode()
		if a := c.must("GET", address, ""); a.status != 400 {
			t.Errorf("wrong %s: GET gives %d", name, a.status)
		}
		if a := c.must("POST", address, "decision=approve", formType); a.status != 400 {
			t.Errorf("wrong %s: POST gives %d", name, a.status)
		}
	}
}

func TestAnOAuthTokenNeedsATrackerScope(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	wantStatus(t, c.asPerson(c.NewLogin("tracker:write").AccessToken), 200, "uid")
	wantStatus(t, c.asPerson(c.NewLogin("disk:read").AccessToken), 403, "permission")
}
