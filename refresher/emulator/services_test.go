package emulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"iam-token-refresher/refresher/emulator"
)

func TestTrackerWantsTheRightHeaders(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	iam, oauth := c.mint().IamToken, strings.TrimSpace(c.read("oauth.token"))
	bearer, person := "Authorization: Bearer "+iam, "Authorization: OAuth "+oauth
	for name, test := range map[string]struct {
		headers []string
		want    int
	}{
		"IAM, Cloud organization":                     {[]string{bearer, cloudOrg}, 200},
		"IAM, other header not provided":              {[]string{bearer, cloudOrg, "X-Org-ID: not provided"}, 200},
		"IAM, both headers: Cloud wins":               {[]string{bearer, cloudOrg, numberOrg}, 200},
		"IAM, numeric organization":                   {[]string{bearer, numberOrg}, 403},
		"IAM, numeric, Cloud not provided":            {[]string{bearer, numberOrg, "X-Cloud-Org-ID: not provided"}, 403},
		"IAM, unknown Cloud organization":             {[]string{bearer, "X-Cloud-Org-ID: bpfunknown"}, 403},
		"IAM, the number in the Cloud header":         {[]string{bearer, "X-Cloud-Org-ID: " + emulator.OrgID}, 403},
		"IAM, no organization":                        {[]string{bearer}, 403},
		"IAM, both not provided":                      {[]string{bearer, "X-Org-ID: not provided", "X-Cloud-Org-ID: not provided"}, 403},
		"OAuth, numeric organization":                 {[]string{person, numberOrg}, 200},
		"OAuth, Cloud organization":                   {[]string{person, cloudOrg}, 200},
		"OAuth, numeric, Cloud not provided":          {[]string{person, numberOrg, "X-Cloud-Org-ID: not provided"}, 200},
		"OAuth, wrong number":                         {[]string{person, "X-Org-ID: 1"}, 403},
		"OAuth, the Cloud id in the other header":     {[]string{person, "X-Org-ID: " + emulator.CloudOrgID}, 403},
		"OAuth, wrong Cloud id beside a right number": {[]string{person, numberOrg, "X-Cloud-Org-ID: bpfunknown"}, 403},
		"no token":                     {[]string{cloudOrg}, 401},
		"no token and no organization": {nil, 401},
		"rubbish token":                {[]string{"Authorization: Bearer rubbish", cloudOrg}, 401},
		"no scheme":                    {[]string{"Authorization: " + iam, cloudOrg}, 401},
		"IAM token as OAuth":           {[]string{"Authorization: OAuth " + iam, cloudOrg}, 401},
		"OAuth token as Bearer":        {[]string{"Authorization: Bearer " + oauth, cloudOrg}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/v3/myself", "/v2/myself"} {
				a := c.must("GET", c.Endpoints().Tracker+path, "", test.headers...)
				if a.status != test.want {
					t.Fatalf("%s: got %d %s, want %d", path, a.status, a.body, test.want)
				}
				body := a.json(t)
				if test.want == 200 && (body["uid"] == nil || body["login"] == "" || body["login"] == nil) {
					t.Errorf("no uid or login in %s", a.body)
				}
				messages, _ := body["errorMessages"].([]any)
				if test.want != 200 && (body["statusCode"] != float64(test.want) || len(messages) != 1 || body["errors"] == nil) {
					t.Errorf("not Tracker's error body: %s", a.body)
				}
			}
		})
	}
}

func TestTrackerKnowsWhoHasAccess(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	outsider, _, err := c.Mint(emulator.OutsiderAccount, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.myself(outsider), http.StatusForbidden, "no access")
	if err := c.SetTrackerAccess(emulator.OutsiderAccount, true); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.myself(outsider), http.StatusOK, "uid")
	wantStatus(t, c.must("GET", c.Endpoints().Tracker+"/v3/queues", "", "Authorization: Bearer "+outsider, cloudOrg), http.StatusNotFound, "errorMessages")
}

func TestTheMetadataServiceIsTheClouds(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{TokenLifetime: time.Hour})
	a := c.metadataToken()
	wantStatus(t, a, http.StatusOK, "access_token")
	out := a.json(t)
	if left, _ := out["expires_in"].(float64); left < 3590 || left > 3600 || out["token_type"] != "Bearer" {
		t.Errorf("got %v of %v", out["expires_in"], out["token_type"])
	}
	wantStatus(t, c.myself(out["access_token"].(string)), http.StatusOK, emulator.BotAccount)

	address := c.Endpoints().Metadata + "/computeMetadata/v1/instance/service-accounts/default/token"
	wantStatus(t, c.must("GET", address, ""), http.StatusForbidden, "Metadata-Flavor")
	wantStatus(t, c.must("GET", address, "", "Metadata-Flavor: Azure"), http.StatusForbidden, "")
	wantStatus(t, c.must("GET", c.Endpoints().Metadata+"/computeMetadata/v1/", "", "Metadata-Flavor: Google"), http.StatusNotFound, "")
	wantStatus(t, c.must("POST", address, "", "Metadata-Flavor: Google"), http.StatusMethodNotAllowed, "")

	if err := c.SetMetadata(emulator.BotAccount, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	out = c.metadataToken().json(t)
	if left, _ := out["expires_in"].(float64); left < 2 || left > 3 {
		t.Errorf("%v s left, want 3", left)
	}
	wantStatus(t, c.myself(out["access_token"].(string)), http.StatusOK, "uid")
	if err := c.SetClockOffset(4 * time.Second); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.myself(out["access_token"].(string)), http.StatusUnauthorized, "expired")

	if err := c.SetMetadata("", 0); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.metadataToken(), http.StatusNotFound, "no service account")
	if c.SetMetadata("ajenobody", 0) == nil || c.SetMetadata("", -time.Second) == nil {
		t.Error("a wrong setting was accepted")
	}
}

func TestTheMetadataServiceSaysWhatIsLeftOfAReissuedToken(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{TokenLifetime: time.Hour, ReissueUntil: 1})
	first := c.metadataToken().json(t)
	if err := c.SetClockOffset(10 * time.Minute); err != nil {
		t.Fatal(err)
	}
	again := c.metadataToken().json(t)
	left, _ := again["expires_in"].(float64)
	if again["access_token"] != first["access_token"] || left < 2990 || left > 3000 {
		t.Errorf("after ten minutes of an hour %v s are left, want 3000 of the same token", left)
	}
}

func exchangeForm(account, subject string) url.Values {
	return url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience":             {account},
		"subject_token":        {subject},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:id_token"},
	}
}

func TestTokenExchange(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	ask := func(f url.Values) answer { return c.must("POST", c.Endpoints().TokenExchange, f.Encode(), formType) }
	a := ask(exchangeForm(emulator.BotAccount, c.read("oidc.jwt")))
	wantStatus(t, a, http.StatusOK, "access_token")
	if left, _ := a.json(t)["expires_in"].(float64); left < 43190 || left > 43200 {
		t.Errorf("expires_in %v, want 43200", left)
	}
	wantStatus(t, c.myself(a.json(t)["access_token"].(string)), http.StatusOK, emulator.BotAccount)

	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(s emulator.SubjectClaims) string {
		raw, err := c.SignSubject(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := signed(emulator.SubjectClaims{})
	with := func(name, value string) url.Values {
		f := exchangeForm(emulator.BotAccount, good)
		f.Set(name, value)
		return f
	}
	for name, test := range map[string]struct {
		form url.Values
		want string
	}{
		"expired subject token":      {exchangeForm(emulator.BotAccount, signed(emulator.SubjectClaims{Lifetime: -time.Minute})), "expired"},
		"wrong audience":             {exchangeForm(emulator.BotAccount, signed(emulator.SubjectClaims{Audience: []string{"other"}})), "audience"},
		"wrong issuer":               {exchangeForm(emulator.BotAccount, signed(emulator.SubjectClaims{Issuer: "https://other.invalid"})), "issuer"},
		"subject that is not linked": {exchangeForm(emulator.BotAccount, signed(emulator.SubjectClaims{Subject: "somebody"})), "not linked"},
		"account that is not linked": {exchangeForm(emulator.TargetAccount, good), "not linked"},
		"unknown account":            {exchangeForm("ajenobody", good), "does not exist"},
		"foreign key":                {exchangeForm(emulator.BotAccount, foreignSubject(t, foreign, "k8s", "iss", emulator.DefaultAudience, time.Hour)), "unknown key"},
		"rubbish":                    {exchangeForm(emulator.BotAccount, "rubbish"), "malformed"},
		"no subject token":           {with("subject_token", ""), "missing"},
		"wrong grant_type":           {with("grant_type", "refresh_token"), "unsupported_grant_type"},
		"wrong subject_token_type":   {with("subject_token_type", "x"), "subject_token_type"},
		"wrong requested_token_type": {with("requested_token_type", "x"), "requested_token_type"},
		"nothing":                    {url.Values{}, "form"},
	} {
		a := ask(test.form)
		if a.status != 400 || a.json(t)["error"] == nil || !strings.Contains(a.body, test.want) {
			t.Errorf("%s: got %d %s, want 400 with %q", name, a.status, a.body, test.want)
		}
	}
	if err := c.LinkSubject("somebody", emulator.TargetAccount); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, ask(exchangeForm(emulator.TargetAccount, signed(emulator.SubjectClaims{Subject: "somebody"}))), 200, "access_token")
}

func foreignSubject(t *testing.T, key *rsa.PrivateKey, kid, iss, aud string, life time.Duration) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": iss, "sub": "system:serviceaccount:prod:app", "aud": []string{aud}, "exp": time.Now().Add(life).Unix(),
	})
	token.Header["kid"] = kid
	raw, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTokenExchangeTakesTheTokensOfAJWKS(t *testing.T) {
	t.Parallel()
	private := sharedRSA()
	jwks := filepath.Join(t.TempDir(), "jwks.json")
	set, _ := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "EC", "kid": "ignored"},
		{
			"use": "sig", "kty": "RSA", "kid": "k8s", "alg": "RS256",
			"n": base64.RawURLEncoding.EncodeToString(private.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(private.E)).Bytes()),
		},
	}})
	if err := os.WriteFile(jwks, set, 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, emulator.Options{JWKS: jwks, Audience: "yandex"})
	const issuer = "https://kubernetes.default.svc"
	for name, test := range map[string]struct {
		raw  string
		want int
	}{
		"any issuer and subject": {foreignSubject(t, private, "k8s", issuer, "yandex", time.Hour), 200},
		"the emulator's own":     {c.read("oidc.jwt"), 200},
		"other audience":         {foreignSubject(t, private, "k8s", issuer, "other", time.Hour), 400},
		"expired":                {foreignSubject(t, private, "k8s", issuer, "yandex", -time.Hour), 400},
		"no issuer":              {foreignSubject(t, private, "k8s", "", "yandex", time.Hour), 400},
		"unknown kid":            {foreignSubject(t, private, "other", issuer, "yandex", time.Hour), 400},
	} {
		a := c.must("POST", c.Endpoints().TokenExchange, exchangeForm(emulator.BotAccount, test.raw).Encode(), formType)
		if a.status != test.want {
			t.Errorf("%s: got %d %s, want %d", name, a.status, a.body, test.want)
		}
	}
	subject := foreignSubject(t, private, "k8s", issuer, "yandex", time.Hour)
	ask := func() answer {
		return c.must("POST", c.Endpoints().TokenExchange, exchangeForm(emulator.BotAccount, subject).Encode(), formType)
	}
	for _, step := range []struct {
		account, audience string
		want              int
	}{
		{emulator.OutsiderAccount, "yandex", 400},
		{emulator.BotAccount, "yandex", 200},
		{emulator.BotAccount, "other", 400},
		{emulator.BotAccount, "yandex", 200},
	} {
		if err := c.LinkSubject("system:serviceaccount:prod:app", step.account); err != nil {
			t.Fatal(err)
		}
		c.SetAudience(step.audience)
		if a := ask(); a.status != step.want {
			t.Errorf("linked to %s, for the audience %s: got %d %s, want %d", step.account, step.audience, a.status, a.body, step.want)
		}
	}
	for name, content := range map[string]string{"not JSON": "x", "no keys": `{"keys":[]}`, "broken key": `{"keys":[{"kty":"RSA","kid":"a","n":"!","e":"AQAB"}]}`} {
		if err := os.WriteFile(jwks, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), JWKS: jwks, RSA: private}); err == nil || !strings.Contains(fmt.Sprint(err), jwks) {
			t.Errorf("%s: error %v, want one that names the file", name, err)
		}
	}
}
