package emulator_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/yandex-cloud/go-genproto/yandex/cloud/endpoint"
	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"iam-token-refresher/refresher/emulator"
)

var todaysFormat = regexp.MustCompile(`^t1\.[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]{86}={0,2}$`)

func TestIAMRefusesEveryJWTThatIsNotQuiteRight(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{Accounts: 1})
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var otherAccountsKey key
	if err := json.Unmarshal([]byte(c.read("keys/0001.json")), &otherAccountsKey); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		bend func(*claim)
		want string
	}{
		"signed with another key":              {func(j *claim) { j.key = other }, "signature"},
		"kid unknown":                          {func(j *claim) { j.kid = "ajeunknown0000000000" }, "does not exist"},
		"kid missing":                          {func(j *claim) { j.kid = "" }, "no kid"},
		"kid of another account's key":         {func(j *claim) { j.kid = otherAccountsKey.ID }, "iss"},
		"iss of another account":               {func(j *claim) { j.iss = emulator.TargetAccount }, "iss"},
		"iss missing":                          {func(j *claim) { j.iss = "" }, "iss"},
		"aud wrong":                            {func(j *claim) { j.aud = "https://iam.api.cloud.yandex.net/" }, "audience"},
		"aud missing":                          {func(j *claim) { j.aud = "" }, "lacks"},
		"iat and exp old":                      {func(j *claim) { j.iat, j.exp = j.iat.Add(-2*time.Hour), j.exp.Add(-2*time.Hour) }, "expired"},
		"iat old, exp in the future":           {func(j *claim) { j.iat = j.iat.Add(-time.Minute) }, "too long"},
		"iat in the future":                    {func(j *claim) { j.iat, j.exp = j.iat.Add(2*time.Minute), j.exp.Add(time.Minute) }, "future"},
		"iat missing":                          {func(j *claim) { j.iat = time.Time{} }, "lacks"},
		"exp missing":                          {func(j *claim) { j.exp = time.Time{} }, "lacks"},
		"exp more than an hour after iat":      {func(j *claim) { j.exp = j.exp.Add(2 * time.Second) }, "too long"},
		"exp before iat":                       {func(j *claim) { j.exp = j.iat.Add(-time.Second) }, "before"},
		"alg none":                             {func(j *claim) { j.method, j.key = jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType }, "PS256"},
		"alg RS256":                            {func(j *claim) { j.method = jwt.SigningMethodRS256 }, "PS256"},
		"alg HS256, keyed with the public key": {func(j *claim) { j.method, j.key = jwt.SigningMethodHS256, []byte(c.publicKey()) }, "PS256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := c.goodClaim()
			test.bend(&j)
			_, err := c.create(j.sign(t))
			wantCode(t, err, codes.Unauthenticated, test.want)
		})
	}
	t.Run("not a JWT", func(t *testing.T) {
		t.Parallel()
		_, err := c.create("rubbish")
		wantCode(t, err, codes.Unauthenticated, "malformed")
	})
	t.Run("payload changed after signing", func(t *testing.T) {
		t.Parallel()
		good, other := c.goodClaim(), c.goodClaim()
		other.exp = other.exp.Add(-time.Minute)
		a, b := strings.Split(good.sign(t), "."), strings.Split(other.sign(t), ".")
		_, err := c.create(a[0] + "." + b[1] + "." + a[2])
		wantCode(t, err, codes.Unauthenticated, "signature")
	})
	t.Run("no identity at all", func(t *testing.T) {
		t.Parallel()
		_, err := iampb.NewIamTokenServiceClient(c.iam).Create(t.Context(), &iampb.CreateIamTokenRequest{})
		wantCode(t, err, codes.InvalidArgument, "neither")
	})
}

func (c *cloud) publicKey() string {
	k, _ := parseKey(c.t, []byte(c.read("key.json")))
	return k.Public
}

func TestIAMGivesATokenForAGoodJWT(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{TokenLifetime: time.Hour})
	var header metadata.MD
	before := c.Now()
	out, err := iampb.NewIamTokenServiceClient(c.iam).Create(t.Context(), &iampb.CreateIamTokenRequest{
		Identity: &iampb.CreateIamTokenRequest_Jwt{Jwt: c.goodClaim().sign(t)},
	}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if !todaysFormat.MatchString(out.IamToken) || len(out.IamToken) < 400 || len(out.IamToken) > 900 {
		t.Errorf("a token of %d bytes that does not look like today's", len(out.IamToken))
	}
	if life := out.ExpiresAt.AsTime().Sub(before); life < time.Hour || life > time.Hour+time.Minute {
		t.Errorf("the token lives %s, want 1h", life)
	}
	if _, err := http.ParseTime(strings.Join(header.Get("date"), ",")); err != nil {
		t.Errorf("date metadata: %v", err)
	}
	if a := c.myself(out.IamToken); a.status != http.StatusOK {
		t.Errorf("Tracker answers %d to it", a.status)
	}
	if n := c.Calls()["iam/Create"]; n != 1 {
		t.Errorf("%d calls counted", n)
	}
}

func TestRefusalsOverGRPCCarryTheDateToo(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{ClockOffset: -7 * time.Minute})
	j := c.goodClaim()
	j.iat, j.exp = time.Now(), time.Now().Add(time.Hour) // our clock, 7 min ahead of the services'
	var header metadata.MD
	_, err := iampb.NewIamTokenServiceClient(c.iam).Create(t.Context(), &iampb.CreateIamTokenRequest{
		Identity: &iampb.CreateIamTokenRequest_Jwt{Jwt: j.sign(t)},
	}, grpc.Header(&header))
	wantCode(t, err, codes.Unauthenticated, "future")
	date, err := http.ParseTime(strings.Join(header.Get("date"), ","))
	if skew := time.Since(date); err != nil || skew < 6*time.Minute || skew > 8*time.Minute {
		t.Errorf("date metadata says that our clock is %s ahead (%v), want 7m", skew, err)
	}
}

func TestIAMSpeaksRESTOnTheSamePort(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	url := "https://" + c.Endpoints().IAM

	good := c.must("POST", url+"/iam/v1/tokens", `{"jwt":"`+c.goodClaim().sign(t)+`"}`)
	wantStatus(t, good, http.StatusOK, "iamToken")
	out := good.json(t)
	if _, err := time.Parse(time.RFC3339, out["expiresAt"].(string)); err != nil {
		t.Errorf("expiresAt: %v", err)
	}
	wantStatus(t, c.myself(out["iamToken"].(string)), http.StatusOK, "uid")

	wantStatus(t, c.must("POST", url+"/iam/v1/tokens", `{"yandexPassportOauthToken":"`+strings.TrimSpace(c.read("oauth.token"))+`"}`), http.StatusOK, "iamToken")

	bad := c.must("POST", url+"/iam/v1/tokens", `{"jwt":"rubbish"}`)
	wantStatus(t, bad, http.StatusUnauthorized, `"details":[]`)
	if code := bad.json(t)["code"]; code != 16.0 {
		t.Errorf("code %v, want 16", code)
	}
	wantStatus(t, c.must("POST", url+"/iam/v1/tokens", `not JSON`), http.StatusBadRequest, `"code":3`)
	wantStatus(t, c.must("POST", url+"/iam/v1/tokens", `{}`), http.StatusBadRequest, `"code":3`)

	bearer := "Authorization: Bearer " + out["iamToken"].(string)
	wantStatus(t, c.must("POST", url+"/iam/v1/tokens:createForServiceAccount", `{"serviceAccountId":"`+emulator.TargetAccount+`"}`, bearer), http.StatusOK, "iamToken")
	wantStatus(t, c.must("POST", url+"/iam/v1/tokens:createForServiceAccount", `{"serviceAccountId":"`+emulator.OutsiderAccount+`"}`, bearer), http.StatusForbidden, `"code":7`)
	wantStatus(t, c.must("POST", url+"/iam/v1/tokens:revoke", `{"iamToken":"`+out["iamToken"].(string)+`"}`), http.StatusOK, emulator.BotAccount)
	wantStatus(t, c.myself(out["iamToken"].(string)), http.StatusUnauthorized, "revoked")
}

func TestEveryHTTPSAnswerOfIAMHasADate(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{ClockOffset: 7 * time.Minute})
	for _, path := range []string{"/", "/iam/v1/tokens", "/no/such/thing"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			a := c.must(method, "https://"+c.Endpoints().IAM+path, "")
			date, err := http.ParseTime(a.header.Get("Date"))
			if ahead := time.Until(date); err != nil || len(a.header["Date"]) != 1 || ahead < 6*time.Minute || ahead > 8*time.Minute {
				t.Errorf("%s %s: Date %q is %s ahead, want 7m", method, path, a.header["Date"], ahead)
			}
		}
	}
}

func TestImpersonation(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	own := c.mint().IamToken

	out, err := c.impersonate(own, emulator.TargetAccount)
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.myself(out.IamToken), http.StatusOK, emulator.TargetAccount)

	_, err = c.impersonate(own, emulator.OutsiderAccount)
	wantCode(t, err, codes.PermissionDenied, "")
	if err := c.AllowImpersonation(emulator.BotAccount, emulator.OutsiderAccount, true); err != nil {
		t.Fatal(err)
	}
	if _, err = c.impersonate(own, emulator.OutsiderAccount); err != nil {
		t.Errorf("allowed now: %v", err)
	}
	_, err = c.impersonate(own, "ajenobody")
	wantCode(t, err, codes.NotFound, "ajenobody")
	_, err = c.impersonate(own, "")
	wantCode(t, err, codes.InvalidArgument, "missing")
	_, err = c.impersonate("rubbish", emulator.TargetAccount)
	wantCode(t, err, codes.Unauthenticated, "unknown")
	_, err = iampb.NewIamTokenServiceClient(c.iam).CreateForServiceAccount(t.Context(), &iampb.CreateIamTokenForServiceAccountRequest{ServiceAccountId: emulator.TargetAccount})
	wantCode(t, err, codes.Unauthenticated, "no Bearer token")
	c.Revoke(own)
	_, err = c.impersonate(own, emulator.TargetAccount)
	wantCode(t, err, codes.Unauthenticated, "revoked")
}

func TestIAMTakesAPersonsOAuthToken(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	client := iampb.NewIamTokenServiceClient(c.iam)
	ask := func(value string) (*iampb.CreateIamTokenResponse, error) {
		return client.Create(t.Context(), &iampb.CreateIamTokenRequest{
			Identity: &iampb.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: value},
		})
	}
	value := strings.TrimSpace(c.read("oauth.token"))
	out, err := ask(value)
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, c.myself(out.IamToken), http.StatusOK, emulator.Person)
	_, err = ask(c.mint().IamToken)
	wantCode(t, err, codes.Unauthenticated, "OAuth token")
	c.Revoke(value)
	_, err = ask(value)
	wantCode(t, err, codes.Unauthenticated, "OAuth token")
}

func TestRevokeOverGRPC(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	client := iampb.NewIamTokenServiceClient(c.iam)
	value := c.mint().IamToken
	out, err := client.Revoke(t.Context(), &iampb.RevokeIamTokenRequest{IamToken: value})
	if err != nil || out.SubjectId != emulator.BotAccount {
		t.Errorf("got %v, %v", out, err)
	}
	wantStatus(t, c.myself(value), http.StatusUnauthorized, "revoked")
	_, err = client.Revoke(t.Context(), &iampb.RevokeIamTokenRequest{IamToken: "rubbish"})
	wantCode(t, err, codes.InvalidArgument, "unknown")
}

func TestTheEndpointServiceListsIAM(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	client := endpoint.NewApiEndpointServiceClient(c.dial(c.Endpoints().API))
	out, err := client.List(t.Context(), &endpoint.ListApiEndpointsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, p := range out.Endpoints {
		found[p.Id] = p.Address
	}
	if found["iam"] != c.Endpoints().IAM {
		t.Errorf("iam is at %q, want %q", found["iam"], c.Endpoints().IAM)
	}
	one, err := client.Get(t.Context(), &endpoint.GetApiEndpointRequest{ApiEndpointId: "iam"})
	if err != nil || one.Address != c.Endpoints().IAM {
		t.Errorf("Get: %v, %v", one, err)
	}
	_, err = client.Get(t.Context(), &endpoint.GetApiEndpointRequest{ApiEndpointId: "moon"})
	wantCode(t, err, codes.NotFound, "moon")
	wantStatus(t, c.must("GET", "https://"+c.Endpoints().API+"/endpoints", ""), http.StatusOK, c.Endpoints().IAM)

	// Each service is at its own address only.
	_, err = iampb.NewIamTokenServiceClient(c.dial(c.Endpoints().API)).Create(t.Context(), &iampb.CreateIamTokenRequest{})
	wantCode(t, err, codes.Unimplemented, "")
}

func TestKeysComeAndGo(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	use := func(file []byte) (*iampb.CreateIamTokenResponse, error) {
		k, private := parseKey(t, file)
		j := c.goodClaim()
		j.kid, j.iss, j.key = k.ID, k.Account, private
		return c.create(j.sign(t))
	}
	for name, o := range map[string]emulator.KeyOptions{"sharing the RSA pair": {}, "with its own RSA pair": {OwnRSA: true}} {
		k, err := c.NewKey(emulator.BotAccount, o)
		if err != nil {
			t.Fatal(err)
		}
		out, err := use(k.File)
		if err != nil {
			t.Fatalf("new key %s: %v", name, err)
		}
		old := c.mint().IamToken
		if !c.DeleteKey(k.ID) || c.DeleteKey(k.ID) {
			t.Error("a key can be deleted once")
		}
		_, err = use(k.File)
		wantCode(t, err, codes.Unauthenticated, "does not exist")
		wantStatus(t, c.myself(out.IamToken), http.StatusUnauthorized, "revoked")
		wantStatus(t, c.myself(old), http.StatusOK, "uid")
	}
	k, err := c.NewKey(emulator.BotAccount, emulator.KeyOptions{Mismatched: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = use(k.File)
	wantCode(t, err, codes.Unauthenticated, "signature")
	if _, err := c.NewKey("ajenobody", emulator.KeyOptions{}); err == nil {
		t.Error("a key for nobody was made")
	}
	if n := len(c.PrivateKeys()); n != 3 { // the shared one and two others
		t.Errorf("%d private keys are known, want 3", n)
	}
}

func TestADeletedAccountGetsNothingUntilItIsRestored(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	value := c.mint().IamToken
	if err := c.DeleteAccount(emulator.BotAccount); err != nil {
		t.Fatal(err)
	}
	_, err := c.create(c.goodClaim().sign(t))
	wantCode(t, err, codes.Unauthenticated, "deleted")
	wantStatus(t, c.myself(value), http.StatusUnauthorized, "deleted")
	wantStatus(t, c.metadataToken(), http.StatusNotFound, "")
	if err := c.RestoreAccount(emulator.BotAccount); err != nil {
		t.Fatal(err)
	}
	c.mint()
	wantStatus(t, c.myself(value), http.StatusOK, "uid")
	if err := c.DeleteAccount("ajenobody"); err == nil {
		t.Error("nobody was deleted")
	}
}
