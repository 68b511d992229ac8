package iam

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"iam-token-refresher/refresher"
)

// secret is put where it must not come out of.
const secret = "t1.9euelZqQkJ-Nz8mXmpnGx8bHz-3rnpWaz4qXl5qVls6Uz5GPl8mdnsvl9Pd.recognisable-value-in-tests"

// fakeIAM is an IAM that says what a test wants, however unlikely.
type fakeIAM struct {
	iampb.UnimplementedIamTokenServiceServer
	create     func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error)
	forAccount func(context.Context, *iampb.CreateIamTokenForServiceAccountRequest) (*iampb.CreateIamTokenResponse, error)
	// now makes the Date headers; nil leaves them out.
	now func() time.Time
	// plain answers requests that are not gRPC; nil: 404 with a Date.
	plain http.HandlerFunc

	address string
}

func (f *fakeIAM) Create(ctx context.Context, req *iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
	if f.now != nil {
		// As metadata: grpc's server takes the header of this name away.
		_ = grpc.SetHeader(ctx, metadata.Pairs("date", f.now().UTC().Format(http.TimeFormat)))
	}
	return f.create(req)
}

func (f *fakeIAM) CreateForServiceAccount(ctx context.Context, req *iampb.CreateIamTokenForServiceAccountRequest) (*iampb.CreateIamTokenResponse, error) {
	return f.forAccount(ctx, req)
}

// start serves gRPC and HTTPS on one address and returns a Cloud that asks there.
func (f *fakeIAM) start(t *testing.T, change ...func(*Config)) *Cloud {
	t.Helper()
	server := grpc.NewServer()
	iampb.RegisterIamTokenServiceServer(server, f)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			server.ServeHTTP(w, r)
			return
		}
		if f.plain != nil {
			f.plain(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	f.address = s.Listener.Addr().String()
	cfg := Config{Endpoints: Endpoints{IAM: f.address}, TLS: s.Client().Transport.(*http.Transport).TLSClientConfig}
	cfg.TLS.NextProtos = nil
	for _, c := range change {
		c(&cfg)
	}
	return newCloud(t, cfg)
}

func newCloud(t *testing.T, cfg Config) *Cloud {
	t.Helper()
	c := New(withTransport(t, cfg))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// withTransport has HTTP trust whom TLS trusts, as in the daemon.
func withTransport(t testing.TB, cfg Config) Config {
	t.Helper()
	if cfg.HTTP == nil {
		own := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS.Clone(), ForceAttemptHTTP2: true}
		t.Cleanup(own.CloseIdleConnections)
		cfg.HTTP = own
	}
	return cfg
}

// gives is an answer with a token.
func gives(value string, lifetime time.Duration) func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
	return func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
		return &iampb.CreateIamTokenResponse{IamToken: value, ExpiresAt: timestamppb.New(time.Now().Add(lifetime))}, nil
	}
}

func refuses(err error) func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
	return func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) { return nil, err }
}

// testRSA is made once: it takes a while.
var testRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

const (
	testKeyID   = "ajekey00000000000001"
	testAccount = "ajeacc00000000000001"
)

func privatePEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func publicPEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyJSON is a key file; each pair of changes sets a field, or removes it with "".
func keyJSON(t testing.TB, changes ...string) []byte {
	t.Helper()
	fields := map[string]string{
		"id":                 testKeyID,
		"service_account_id": testAccount,
		"created_at":         "2026-01-02T03:04:05.678901Z",
		"key_algorithm":      "RSA_2048",
		"public_key":         publicPEM(t, &testRSA().PublicKey),
		"private_key":        "PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <" + testKeyID + ">\n" + privatePEM(t, testRSA()),
	}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
		if changes[i+1] == "" {
			delete(fields, changes[i])
		}
	}
	content, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func keySourceOf(t testing.TB, c *Cloud) refresher.Source {
	t.Helper()
	return source(t, c, KeyOptions{File: writeFile(t, string(keyJSON(t)))})
}

// options is what all option structs have.
type options interface {
	Validate() error
	New(*Cloud) (refresher.Source, error)
	Rebuild() []string
	Inputs() []string
}

func source(t testing.TB, c *Cloud, o options) refresher.Source {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := o.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// failure mints, wants it to fail, and checks what holds for every error.
func failure(t testing.TB, s refresher.Source) *refresher.Failure {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := s.Mint(ctx)
	if err == nil {
		t.Fatalf("a token of %d bytes was minted, want an error", m.Value.Len())
	}
	if m != (refresher.Minted{}) {
		t.Errorf("beside the error there is a result")
	}
	checkText(t, err.Error())
	var f *refresher.Failure
	if !errors.As(err, &f) {
		t.Errorf("%v carries no Failure", err)
	}
	return refresher.AsFailure(err)
}

// checkText checks what goes for every error: one line, readable, no secret.
func checkText(t testing.TB, text string) {
	t.Helper()
	for _, part := range []string{secret, secret[:20], secret[len(secret)-20:], "recognisable", "PRIVATE KEY", "eyJ"} {
		if strings.Contains(text, part) {
			t.Errorf("the secret %.6s… is in the error:\n%s", part, text)
		}
	}
	if strings.ContainsAny(text, "\r\n\x1b\x00") || len(text) > 1000 {
		t.Errorf("not one readable line:\n%s", text)
	}
}

// wantText checks that an error names all of these.
func wantText(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%s", part, err)
		}
	}
}

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// wantLeft wants a value that had this long to live when it was minted, some
// time since began. Services tell the time, and how much is left, in whole
// seconds.
func wantLeft(t *testing.T, m refresher.Minted, began time.Time, life time.Duration) {
	t.Helper()
	if end := m.ExpiresAt; end.Before(began.Add(life-2*time.Second)) || end.After(time.Now().Add(life)) {
		t.Errorf("it expires %s after the mint began, want %s", end.Sub(began), life)
	}
}
