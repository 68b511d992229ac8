package emulator_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/golang-jwt/jwt/v5"

	"iam-token-refresher/refresher/emulator"
)

func TestEverythingIsInTheDirectory(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{Dir: filepath.Join(t.TempDir(), "made", "here")})
	for name, mode := range map[string]os.FileMode{
		"ca.pem": 0o644, "key.json": 0o600, "oauth.token": 0o600, "oauth.secret": 0o600, "oidc.jwt": 0o600,
		"config.yaml": 0o644, "endpoints.json": 0o644, "state": os.ModeDir | 0o700,
	} {
		info, err := os.Stat(filepath.Join(c.dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, err, info.Mode(), mode)
		}
	}
	var p emulator.Endpoints
	if err := json.Unmarshal([]byte(c.read("endpoints.json")), &p); err != nil || p != c.Endpoints() {
		t.Errorf("endpoints.json has %v, %v", p, err)
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) != 9 { // with .lock
		t.Errorf("%d entries, want 9: %v", len(entries), entries)
	}
}

func TestTheKeyFileIsAsYcWritesIt(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	text := c.read("key.json")
	k, private := parseKey(t, []byte(text))
	if !strings.HasPrefix(text, "{\n   \"id\": ") || k.Account != emulator.BotAccount || k.Kind != "RSA_2048" ||
		len(k.ID) != 20 || private.N.BitLen() != 2048 || !strings.HasPrefix(k.Public, "-----BEGIN PUBLIC KEY-----\n") {
		t.Errorf("not what yc writes: %d bytes for key %s of %s", len(text), k.ID, k.Account)
	}
	if want := "PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <" + k.ID + ">\n-----BEGIN PRIVATE KEY-----\n"; !strings.HasPrefix(k.Private, want) {
		t.Error("the private key does not begin with the usual line")
	}
	if _, err := time.Parse(time.RFC3339, k.Created); err != nil {
		t.Error(err)
	}
}

// config is the part of the daemon's configuration that the emulator writes.
type config struct {
	Tokens []struct {
		Name    string
		Source  map[string]map[string]string
		Refresh struct{ Schedule string }
		Probe   struct {
			Tracker  map[string]string
			Schedule string
		}
		Sinks []map[string]map[string]any
	}
	StateDir  string            `yaml:"state_dir"`
	Endpoints map[string]string `yaml:"endpoints"`
	CAFile    string            `yaml:"ca_file"`
	Limits    map[string]int
}

func (c *cloud) config(name string) config {
	c.t.Helper()
	var out config
	if err := yaml.UnmarshalWithOptions([]byte(c.read(name)), &out, yaml.Strict()); err != nil {
		c.t.Fatal(err)
	}
	return out
}

func TestTheConfigurationIsReadyForTheDaemon(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{Dir: shortDir(t)})
	got := c.config("config.yaml")
	in := func(name string) string { return filepath.Join(c.dir, name) }
	p := c.Endpoints()
	for what, pair := range map[string][2]any{
		"state_dir": {got.StateDir, in("state")},
		"ca_file":   {got.CAFile, in("ca.pem")},
		"endpoints": {fmt.Sprint(got.Endpoints), fmt.Sprint(map[string]string{
			"iam": p.IAM, "metadata": p.Metadata, "token_exchange": p.TokenExchange, "oauth": p.OAuth, "tracker": p.Tracker,
		})},
		"name":     {got.Tokens[0].Name, "bot"},
		"source":   {got.Tokens[0].Source["service_account_key"]["file"], in("key.json")},
		"probe":    {got.Tokens[0].Probe.Tracker["cloud_org_id"], emulator.CloudOrgID},
		"file":     {got.Tokens[0].Sinks[0]["file"]["path"], in("bot.token")},
		"env_file": {got.Tokens[0].Sinks[1]["env_file"]["path"], in("bot.env")},
		"variable": {fmt.Sprint(got.Tokens[0].Sinks[1]["env_file"]["variables"]), "map[YC_TOKEN:{{.Value}}]"},
		"socket":   {got.Tokens[0].Sinks[2]["socket"]["path"], in("itr.sock")},
		"default":  {got.Tokens[0].Sinks[3]["metadata"]["default"], true},
		"refresh":  {got.Tokens[0].Refresh.Schedule, "@every 1h"},
		"re-probe": {got.Tokens[0].Probe.Schedule, "@every 15m"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	listen, _ := got.Tokens[0].Sinks[3]["metadata"]["listen"].(string)
	l, err := net.Listen("tcp", listen)
	if err != nil || !strings.HasPrefix(listen, "127.0.0.1:") {
		t.Fatalf("the daemon cannot listen on %q: %v", listen, err)
	}
	_ = l.Close()
}

// shortDir is a directory whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "emu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSchedulesFitTheLifetimeOfTokens(t *testing.T) {
	t.Parallel()
	for lifetime, want := range map[time.Duration]string{
		12 * time.Hour: "@every 1h @every 15m", 20 * time.Second: "@every 6s @every 1s", time.Second: "@every 1s @every 1s",
		time.Hour: "@every 20m @every 5m", time.Minute: "@every 20s @every 5s",
	} {
		c := start(t, emulator.Options{TokenLifetime: lifetime})
		token := c.config("config.yaml").Tokens[0]
		if got := token.Refresh.Schedule + " " + token.Probe.Schedule; got != want {
			t.Errorf("tokens that live %s: %s, want %s", lifetime, got, want)
		}
	}
}

func TestADirectoryWithALongNameGetsNoSocket(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{Dir: filepath.Join(t.TempDir(), strings.Repeat("long", 30))})
	if sinks := c.config("config.yaml").Tokens[0].Sinks; len(sinks) != 3 {
		t.Errorf("%d sinks, want 3", len(sinks))
	}
}

func TestAccountsHaveAKeyFileAndATokenEach(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{Accounts: 12})
	got := c.config("config-accounts.yaml")
	if len(got.Tokens) != 12 || got.Limits["mints"] != 16 || got.Limits["probes_per_second"] != 0 || got.StateDir == "" || got.CAFile == "" {
		t.Errorf("%d tokens, limits %v", len(got.Tokens), got.Limits)
	}
	seen := map[string]bool{}
	for i, token := range got.Tokens {
		file, err := os.ReadFile(token.Source["service_account_key"]["file"])
		if err != nil {
			t.Fatal(err)
		}
		k, private := parseKey(t, file)
		if k.Account != emulator.AccountID(i+1) || seen[k.ID] || len(token.Sinks) != 1 {
			t.Errorf("token %d has key %s of %s and %d sinks", i, k.ID, k.Account, len(token.Sinks))
		}
		seen[k.ID] = true
		j := c.goodClaim()
		j.kid, j.iss, j.key = k.ID, k.Account, private
		out, err := c.create(j.sign(t))
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, c.myself(out.IamToken), http.StatusOK, k.Account)
	}
	if len(c.PrivateKeys()) != 1 {
		t.Error("the keys do not share one RSA pair")
	}
}

func TestWhatAnEarlierEmulatorLeftIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := emulator.Start(t.Context(), emulator.Options{Dir: dir, Accounts: 3, RSA: sharedRSA()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := emulator.Start(t.Context(), emulator.Options{Dir: dir, RSA: sharedRSA()}); err == nil || !strings.Contains(err.Error(), "another iam-emulator") {
		t.Errorf("a second emulator in the same directory: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); !errors.Is(err, os.ErrNotExist) {
		t.Error("endpoints.json outlives the emulator")
	}
	c := start(t, emulator.Options{Dir: dir, Accounts: 1})
	if left, _ := filepath.Glob(filepath.Join(dir, "keys", "*")); len(left) != 1 {
		t.Errorf("keys: %v", left)
	}
	c.mint()
}

func TestDirectoriesThatDoNotDo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"": "no directory", file: "not a directory", filepath.Join(file, "sub"): "not a directory",
		"/proc/emulator": "/proc/emulator", filepath.Join(t.TempDir(), "$HOME"): "$",
	} {
		_, err := emulator.Start(t.Context(), emulator.Options{Dir: dir, RSA: sharedRSA()})
		var option *emulator.OptionError
		if !errors.As(err, &option) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an OptionError with %q", dir, err, want)
		}
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]emulator.Options{
		"token lifetime": {TokenLifetime: 13 * time.Hour}, "reissue": {ReissueUntil: 1.1}, "format": {TokenFormat: "t2"},
		"accounts": {Accounts: -1}, "JWKS": {JWKS: "/no/such/file"}, "listen address": {Listen: "127.0.0.1:99999"},
		"metadata listen": {MetadataListen: "here"}, "subject": {SubjectLifetime: time.Millisecond},
		"OAuth": {OAuthLifetime: -1}, "whole seconds": {DeviceInterval: 1500 * time.Millisecond},
		"device code": {DeviceLifetime: -1}, "grace": {RefreshGrace: -1}, "keep": {KeepIssued: -1},
	} {
		o.Dir = t.TempDir()
		_, err := emulator.Start(t.Context(), o)
		var option *emulator.OptionError
		if !errors.As(err, &option) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
			t.Errorf("%s: files were written", want)
		}
	}
}

func TestTheSubjectTokenFollowsTheServicesClock(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	first := c.read("oidc.jwt")
	if err := c.SetClockOffset(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	second := c.read("oidc.jwt")
	ask := func(raw string) int {
		return c.must("POST", c.Endpoints().TokenExchange, exchangeForm(emulator.BotAccount, raw).Encode(), formType).status
	}
	if ask(first) != 400 || ask(second) != 200 {
		t.Errorf("the first token gives %d, want 400; the second %d, want 200", ask(first), ask(second))
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(second, &claims); err != nil {
		t.Fatal(err)
	}
	if life := claims.ExpiresAt.Sub(claims.IssuedAt.Time); life != time.Hour {
		t.Errorf("it lives %s", life)
	}
}

func TestAFixedPortIsTheFirstOfSeven(t *testing.T) {
	t.Parallel()
	for range 20 { // somebody else may have a port
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if port > 65000 {
			continue
		}
		e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), RSA: sharedRSA(), Listen: fmt.Sprintf("127.0.0.1:%d", port)})
		if err != nil {
			continue
		}
		defer func() { _ = e.Close() }()
		if p := e.Endpoints(); p.API != fmt.Sprintf("127.0.0.1:%d", port) || p.Admin != fmt.Sprintf("http://127.0.0.1:%d", port+6) {
			t.Errorf("from port %d: %v", port, p)
		}
		return
	}
	t.Fatal("no seven free ports in a row")
}
