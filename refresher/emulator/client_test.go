package emulator_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"iam-token-refresher/refresher/emulator"
)

// sharedRSA spares every test the making of a key.
var sharedRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// cloud is an emulator with raw clients of its services.
type cloud struct {
	*emulator.Emulator
	t    testing.TB
	dir  string
	http *http.Client
	iam  *grpc.ClientConn
}

func start(t testing.TB, o emulator.Options) *cloud {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.RSA == nil {
		o.RSA = sharedRSA()
	}
	e, err := emulator.Start(t.Context(), o)
	if err != nil {
		t.Fatalf("start the emulator: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close the emulator: %v", err)
		}
	})
	c := &cloud{Emulator: e, t: t, dir: o.Dir}
	c.http = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: e.TLS(), ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(c.http.CloseIdleConnections)
	c.iam = c.dial(e.Endpoints().IAM)
	return c
}

func (c *cloud) dial(address string) *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(c.TLS())), grpc.WithDisableRetry())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (c *cloud) read(name string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// key is a key file as a client sees it.
type key struct {
	ID      string `json:"id"`
	Account string `json:"service_account_id"`
	Created string `json:"created_at"`
	Kind    string `json:"key_algorithm"`
	Public  string `json:"public_key"`
	Private string `json:"private_key"`
}

func parseKey(t testing.TB, file []byte) (key, *rsa.PrivateKey) {
	t.Helper()
	var k key
	if err := json.Unmarshal(file, &k); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(k.Private))
	if block == nil {
		t.Fatal("no PEM in private_key")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k, private.(*rsa.PrivateKey)
}

// claim is the content of a JWT that a test bends.
type claim struct {
	method   jwt.SigningMethod
	key      any
	kid, iss string
	aud      string
	iat, exp time.Time
}

// goodClaim is what IAM wants from the key in key.json.
func (c *cloud) goodClaim() claim {
	c.t.Helper()
	k, private := parseKey(c.t, []byte(c.read("key.json")))
	now := c.Now()
	return claim{
		method: jwt.SigningMethodPS256, key: private, kid: k.ID, iss: k.Account,
		aud: "https://iam.api.cloud.yandex.net/iam/v1/tokens", iat: now, exp: now.Add(time.Hour),
	}
}

func (c claim) sign(t testing.TB) string {
	t.Helper()
	claims := jwt.MapClaims{}
	if c.iss != "" {
		claims["iss"] = c.iss
	}
	if c.aud != "" {
		claims["aud"] = c.aud
	}
	if !c.iat.IsZero() {
		claims["iat"] = c.iat.Unix()
	}
	if !c.exp.IsZero() {
		claims["exp"] = c.exp.Unix()
	}
	token := jwt.NewWithClaims(c.method, claims)
	if c.kid != "" {
		token.Header["kid"] = c.kid
	}
	raw, err := token.SignedString(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// create asks IAM for a token with a JWT.
func (c *cloud) create(raw string) (*iampb.CreateIamTokenResponse, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	return iampb.NewIamTokenServiceClient(c.iam).Create(ctx,
		&iampb.CreateIamTokenRequest{Identity: &iampb.CreateIamTokenRequest_Jwt{Jwt: raw}})
}

// mint gets a token of the bot account as a client does.
func (c *cloud) mint() *iampb.CreateIamTokenResponse {
	c.t.Helper()
	out, err := c.create(c.goodClaim().sign(c.t))
	if err != nil {
		c.t.Fatalf("create a token: %v", err)
	}
	return out
}

func (c *cloud) impersonate(bearer, account string) (*iampb.CreateIamTokenResponse, error) {
	ctx := metadata.AppendToOutgoingContext(c.t.Context(), "authorization", "Bearer "+bearer)
	return iampb.NewIamTokenServiceClient(c.iam).CreateForServiceAccount(ctx,
		&iampb.CreateIamTokenForServiceAccountRequest{ServiceAccountId: account})
}

// answer is an HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("not a JSON object: %v: %q", err, a.body)
	}
	return m
}

// do sends a request; headers come as "Name: value".
func (c *cloud) do(method, url, body string, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func (c *cloud) must(method, url, body string, headers ...string) answer {
	c.t.Helper()
	a, err := c.do(method, url, body, headers...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

const (
	formType  = "Content-Type: application/x-www-form-urlencoded"
	cloudOrg  = "X-Cloud-Org-ID: " + emulator.CloudOrgID
	numberOrg = "X-Org-ID: " + emulator.OrgID
)

// myself asks Tracker with an IAM token.
func (c *cloud) myself(value string) answer {
	c.t.Helper()
	return c.must("GET", c.Endpoints().Tracker+"/v3/myself", "", "Authorization: Bearer "+value, cloudOrg)
}

func (c *cloud) metadataToken() answer {
	c.t.Helper()
	return c.must("GET", c.Endpoints().Metadata+"/computeMetadata/v1/instance/service-accounts/default/token", "", "Metadata-Flavor: Google")
}

func (c *cloud) inject(f emulator.Fault) {
	c.t.Helper()
	if err := c.Inject(f); err != nil {
		c.t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, want codes.Code, message string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != want || !strings.Contains(s.Message(), message) {
		t.Errorf("got %s %q, want %s with %q in it", s.Code(), s.Message(), want, message)
	}
}

func wantStatus(t testing.TB, a answer, want int, inBody string) {
	t.Helper()
	if a.status != want || !strings.Contains(a.body, inBody) {
		t.Errorf("got %d %q, want %d with %q in it", a.status, a.body, want, inBody)
	}
}
