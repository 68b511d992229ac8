package iam

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// world is an emulated cloud and a Cloud that talks to it.
type world struct {
	*emulator.Emulator
	dir   string
	cloud *Cloud
}

func newWorld(t testing.TB, change ...func(*Config)) world {
	t.Helper()
	dir := t.TempDir()
	e, err := emulator.Start(context.Background(), emulator.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	at := e.Endpoints()
	cfg := Config{
		Endpoints: Endpoints{IAM: at.IAM, TokenExchange: at.TokenExchange, Metadata: at.Metadata},
		TLS:       e.TLS(),
	}
	if err := cfg.Endpoints.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&cfg)
	}
	w := world{Emulator: e, dir: dir, cloud: New(withTransport(t, cfg))}
	t.Cleanup(func() { _ = w.cloud.Close() })
	return w
}

func (w world) path(name string) string { return filepath.Join(w.dir, name) }

// sources are all kinds that ask the emulator, by kind.
func (w world) sources(t testing.TB) map[string]refresher.Source {
	t.Helper()
	key := source(t, w.cloud, KeyOptions{File: w.path("key.json")})
	return map[string]refresher.Source{
		"service_account_key": key,
		"metadata":            source(t, w.cloud, MetadataOptions{}),
		"workload_identity":   source(t, w.cloud, WorkloadIdentityOptions{ServiceAccountID: emulator.BotAccount, TokenFile: w.path("oidc.jwt")}),
		"oauth_token":         source(t, w.cloud, OAuthTokenOptions{File: w.path("oauth.token")}),
		"impersonation":       Impersonate(w.cloud, key, emulator.TargetAccount),
	}
}

// keyOf is a source with a new key of the bot.
func (w world) keyOf(t testing.TB, o emulator.KeyOptions) (refresher.Source, emulator.Key) {
	t.Helper()
	key, err := w.NewKey(emulator.BotAccount, o)
	if err != nil {
		t.Fatal(err)
	}
	return source(t, w.cloud, KeyOptions{File: writeFile(t, string(key.File))}), key
}

// checkSecrets searches an error for everything secret that the cloud knows of.
func (w world) checkSecrets(t testing.TB, err error) {
	t.Helper()
	for _, value := range append(w.Issued(), w.PrivateKeys()...) {
		if strings.Contains(err.Error(), value) || len(value) > 60 && strings.Contains(err.Error(), value[:40]) {
			t.Errorf("the secret %.4s… is in the error:\n%s", value, err)
		}
	}
}

func TestEverySourceMintsFromTheCloud(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for kind, s := range w.sources(t) {
		t.Run(kind, func(t *testing.T) {
			began := time.Now()
			m, err := s.Mint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			issued := w.Issued()
			if m.Value.Reveal() != issued[len(issued)-1] {
				t.Error("it is not the value that was issued")
			}
			wantLeft(t, m, began, 12*time.Hour)
			if m.Type != refresher.TypeIAM || m.ServerTime.Before(began.Add(-time.Second)) || m.ServerTime.After(time.Now()) {
				t.Errorf("type %q, server time %s", m.Type, m.ServerTime)
			}
		})
	}
}

func TestEveryRefusalOfTheCloudIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	iam, all := w.Endpoints().IAM, w.sources(t)
	check := func(name string, s refresher.Source, permanent bool, want ...string) {
		t.Run(name, func(t *testing.T) {
			got := failure(t, s)
			wantText(t, got, want...)
			w.checkSecrets(t, got)
			if got.Permanent != permanent {
				t.Errorf("permanent = %v:\n%s", got.Permanent, got)
			}
			t.Log(got)
		})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	wrong, key := w.keyOf(t, emulator.KeyOptions{Mismatched: true})
	check("a key that IAM knows otherwise", wrong, true, "create IAM token at "+iam+" with key "+key.ID, "UNAUTHENTICATED", "make a new one with yc iam key create")
	deleted, key := w.keyOf(t, emulator.KeyOptions{})
	w.DeleteKey(key.ID)
	check("a deleted key", deleted, true, key.ID, "UNAUTHENTICATED", "the key was deleted", emulator.BotAccount)

	must(w.SetClockOffset(-7 * time.Minute))
	check("a clock that is ahead", all["service_account_key"], false, "UNAUTHENTICATED", "your clock is 7 min ahead of Yandex", "timedatectl")
	must(w.SetClockOffset(2 * time.Hour))
	check("a clock that is behind", all["service_account_key"], false, "your clock is 2 h behind Yandex")
	must(w.SetClockOffset(0))

	subject := func(claims emulator.SubjectClaims) refresher.Source {
		token, err := w.SignSubject(claims)
		must(err)
		return source(t, w.cloud, WorkloadIdentityOptions{ServiceAccountID: emulator.BotAccount, TokenFile: writeFile(t, token)})
	}
	check("an expired subject token", subject(emulator.SubjectClaims{Lifetime: -3 * time.Hour}), false, "the workload token expired 3 h ago")
	check("another audience", subject(emulator.SubjectClaims{Audience: []string{"other"}}), true, "audience", "federated credentials")
	check("another workload", subject(emulator.SubjectClaims{Subject: "system:serviceaccount:default:other"}), true, "not linked", emulator.BotAccount)
	check("a subject token that is none", source(t, w.cloud, WorkloadIdentityOptions{ServiceAccountID: emulator.BotAccount, TokenFile: writeFile(t, secret)}), true, `400: "invalid_request"`)
	check("an unknown account", source(t, w.cloud, WorkloadIdentityOptions{ServiceAccountID: "ajenobody", TokenFile: w.path("oidc.jwt")}), true, "ajenobody", "does not exist")

	check("impersonating who does not exist", Impersonate(w.cloud, all["service_account_key"], "ajenobody"), true, "NOT_FOUND", "for service account ajenobody")
	check("impersonating who is not ours", Impersonate(w.cloud, all["service_account_key"], emulator.OutsiderAccount), true, "PERMISSION_DENIED", "tokenCreator on "+emulator.OutsiderAccount)
	check("impersonating with a deleted key", Impersonate(w.cloud, deleted, emulator.TargetAccount), true, "to impersonate "+emulator.TargetAccount, "the key was deleted")

	must(w.SetMetadata("", 0))
	check("a machine without account", all["metadata"], true, w.Endpoints().Metadata, "no service account is attached")
	must(w.SetMetadata(emulator.BotAccount, 3*time.Second))
	t.Run("3 s left are a valid answer", func(t *testing.T) {
		began := time.Now()
		m, err := all["metadata"].Mint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantLeft(t, m, began, 3*time.Second)
	})
	must(w.SetMetadata(emulator.BotAccount, 0))

	oauth, err := os.ReadFile(w.path("oauth.token"))
	must(err)
	if !w.Revoke(strings.TrimSpace(string(oauth))) {
		t.Fatal("the OAuth token is not known")
	}
	check("a revoked OAuth token", all["oauth_token"], true, "UNAUTHENTICATED", w.path("oauth.token"), "get a new one")

	must(w.DeleteAccount(emulator.BotAccount))
	check("a deleted account", all["service_account_key"], true, emulator.BotAccount, "UNAUTHENTICATED")
	check("a workload of a deleted account", all["workload_identity"], true, "does not exist")
	must(w.RestoreAccount(emulator.BotAccount))
}

func TestEveryTroubleOnTheWayIsTransientAndExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sources := w.sources(t)
	services := map[string]string{
		emulator.ServiceIAM: "service_account_key", emulator.ServiceMetadata: "metadata", emulator.ServiceTokenExchange: "workload_identity",
	}
	for _, c := range []struct {
		name  string
		fault emulator.Fault
		want  map[string]string // by service
		after time.Duration
	}{
		{
			"an overload with a time to wait",
			emulator.Fault{Kind: emulator.KindError, Status: 503, Message: "try later", RetryAfter: 42 * time.Second},
			map[string]string{emulator.ServiceIAM: `UNAVAILABLE: "try later"`, emulator.ServiceMetadata: "503", emulator.ServiceTokenExchange: `503: "temporarily_unavailable": "try later"`},
			42 * time.Second,
		},
		{
			"too many requests",
			emulator.Fault{Kind: emulator.KindError, Status: 429, RetryAfter: time.Minute},
			map[string]string{emulator.ServiceIAM: "RESOURCE_EXHAUSTED", emulator.ServiceMetadata: "(429)", emulator.ServiceTokenExchange: "429"},
			time.Minute,
		},
		{
			"a proxy's page",
			emulator.Fault{Kind: emulator.KindHTML},
			map[string]string{emulator.ServiceIAM: "not IAM's but 200 OK of something else: a proxy", emulator.ServiceMetadata: "HTML", emulator.ServiceTokenExchange: "HTML"},
			0,
		},
		{
			"a proxy's 502",
			emulator.Fault{Kind: emulator.KindStatus, Status: 502},
			map[string]string{emulator.ServiceIAM: "a gateway's: 502 Bad Gateway", emulator.ServiceMetadata: "502 Bad Gateway", emulator.ServiceTokenExchange: "502 Bad Gateway"},
			0,
		},
		{
			"a redirect",
			emulator.Fault{Kind: emulator.KindRedirect},
			map[string]string{emulator.ServiceIAM: "not IAM's but 302 Found", emulator.ServiceMetadata: "redirect (302 Found)", emulator.ServiceTokenExchange: "redirect (302 Found)"},
			0,
		},
		{
			"a reset connection",
			emulator.Fault{Kind: emulator.KindReset},
			map[string]string{emulator.ServiceIAM: "UNAVAILABLE", emulator.ServiceMetadata: "connection", emulator.ServiceTokenExchange: "connection"},
			0,
		},
		{
			"rubbish",
			emulator.Fault{Kind: emulator.KindGarbage},
			map[string]string{emulator.ServiceIAM: "the token it gave has", emulator.ServiceMetadata: "JSON", emulator.ServiceTokenExchange: "JSON"},
			0,
		},
		{
			"nothing",
			emulator.Fault{Kind: emulator.KindEmpty},
			map[string]string{emulator.ServiceIAM: "is empty", emulator.ServiceMetadata: "without a body", emulator.ServiceTokenExchange: "without a body"},
			0,
		},
		{
			"an expired token",
			emulator.Fault{Kind: emulator.KindExpired},
			map[string]string{emulator.ServiceIAM: "expired", emulator.ServiceMetadata: "expired", emulator.ServiceTokenExchange: "expired"},
			0,
		},
	} {
		for service, kind := range services {
			t.Run(c.name+" of "+service, func(t *testing.T) {
				c.fault.Service = service
				if err := w.Inject(c.fault); err != nil {
					t.Fatal(err)
				}
				defer w.ClearFaults()
				got := failure(t, sources[kind])
				wantText(t, got, c.want[service])
				w.checkSecrets(t, got)
				if got.Permanent || got.RetryAfter != c.after {
					t.Errorf("permanent = %v, retry after %s: %v", got.Permanent, got.RetryAfter, got)
				}
				t.Log(got)
			})
			t.Run("and the next mint after "+c.name+" of "+service+" succeeds", func(t *testing.T) {
				if _, err := sources[kind].Mint(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for name, n := range w.Calls() {
		if strings.HasSuffix(name, "/redirected") {
			t.Errorf("a redirect was followed: %s, %d times", name, n)
		}
	}
}

func TestHangingCloudEndsWithTheMint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for service, s := range map[string]refresher.Source{
		emulator.ServiceIAM:           w.sources(t)["service_account_key"],
		emulator.ServiceMetadata:      w.sources(t)["metadata"],
		emulator.ServiceTokenExchange: w.sources(t)["workload_identity"],
	} {
		if err := w.Inject(emulator.Fault{Service: service, Kind: emulator.KindHang}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := s.Mint(ctx)
		cancel()
		if err == nil {
			t.Fatalf("%s: minted", service)
		}
		wantText(t, err, "no answer from 127.0.0.1:", " within ", "0ms")
	}
	// A connection that does not answer may be dead without anybody noticing.
	if w.cloud.iam.current != nil {
		t.Error("the connection that hung is used again")
	}
}

func TestConnectionGoesIdleBetweenRenewals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cloud.iam.idleAfter = 50 * time.Millisecond
	s := w.sources(t)["service_account_key"]
	for range 2 {
		if _, err := s.Mint(t.Context()); err != nil {
			t.Fatal(err)
		}
		ch, err := w.cloud.iam.acquire()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for state := ch.GetState(); state != connectivity.Idle; state = ch.GetState() {
			if !ch.WaitForStateChange(ctx, state) {
				t.Fatalf("the connection stays %s", state)
			}
		}
		cancel()
		w.cloud.iam.release(ch, false)
	}
}

// TestThousandMintsLeaveWhatTenLeave counts the whole process and therefore does
// not run beside others.
func TestThousandMintsLeaveWhatTenLeave(t *testing.T) {
	w := newWorld(t)
	sources := w.sources(t)
	mint := func(n int) (descriptors, goroutines int) {
		for range n {
			for kind, s := range sources {
				if kind == "metadata" || kind == "workload_identity" {
					continue // a connection for each, whose ends take a moment
				}
				if _, err := s.Mint(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("there is no /proc here")
		}
		return len(open), runtime.NumGoroutine()
	}
	descriptors, goroutines := mint(4) // 12 mints, of which impersonations are two calls
	n := 330
	if testing.Short() {
		n = 30
	}
	descriptors2, goroutines2 := mint(n)
	t.Logf("after 12 mints: %d descriptors, %d goroutines; after %d more: %d, %d", descriptors, goroutines, 3*n, descriptors2, goroutines2)
	if descriptors2 > descriptors+2 || goroutines2 > goroutines+5 {
		t.Errorf("%d descriptors and %d goroutines became %d and %d", descriptors, goroutines, descriptors2, goroutines2)
	}
	before := w.Calls()
	if before["iam/Create"] < 1000*n/330 {
		t.Errorf("only %d calls arrived", before["iam/Create"])
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	before := runtime.NumGoroutine()
	for range 3 {
		if _, err := w.sources(t)["service_account_key"].Mint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.cloud.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched() // the server's side of the connection ends on its own
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines became %d", before, now)
	}
}
