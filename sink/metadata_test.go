package sink

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/yandex-cloud/go-sdk/v2/credentials"

	"iam-token-refresher/refresher"
)

func serveMetadata(t *testing.T, d *daemon, most int, tokens ...string) (*MetadataServer, map[string]*Endpoint) {
	t.Helper()
	m, err := NewMetadataServer(MetadataServerOptions{Listen: "127.0.0.1:0", Live: d.live(), MaxConns: most})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close(context.Background())) })
	byName := map[string]*Endpoint{}
	var all []*Endpoint
	for i, token := range tokens {
		byName[token] = m.For(token, i == 0)
		all = append(all, byName[token])
	}
	m.Update(all...)
	must(t, byName[tokens[0]].Check(t.Context()))
	if m.Addr() != nil {
		t.Error("Check made it listen")
	}
	must(t, m.Listen())
	must(t, byName[tokens[0]].Check(t.Context()))
	return m, byName
}

func TestTheMetadataListenerAnswersAsTheCloud(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	m, byName := serveMetadata(t, d, 0, "bot", "oauth")
	v := version("bot", 1)
	v.Value = refresher.NewValue("t1.x")
	d.publish(t, v, byName["bot"])
	oauth := version("oauth", 1)
	oauth.Type = refresher.TypeOAuth
	d.publish(t, oauth, byName["oauth"])
	url := "http://" + m.Addr().String()
	_, port, _ := net.SplitHostPort(m.Addr().String())
	c := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	flavor := []string{"Metadata-Flavor", "Google"}
	for name, x := range map[string]struct {
		path    string
		headers []string
		code    int
		body    string
	}{
		"default":               {servicePath + "default/token", flavor, 200, `{"access_token":"t1.x","expires_in":43200,"token_type":"Bearer"}`},
		"by name":               {servicePath + "bot/token", flavor, 200, `"access_token":"t1.x"`},
		"with parameters":       {servicePath + "default/token?recursive=true", flavor, 200, `"access_token":"t1.x"`},
		"without the flavor":    {servicePath + "default/token", nil, 403, "Metadata-Flavor: Google"},
		"unknown":               {servicePath + "nope/token", flavor, 404, "not_found"},
		"an OAuth token":        {servicePath + "oauth/token", flavor, 404, "not_found"},
		"the socket's routes":   {"/v1/tokens/bot", flavor, 404, "not_found"},
		"reload":                {"/v1/reload", flavor, 404, "not_found"},
		"host localhost":        {servicePath + "default/token", append([]string{"Host", "LOCALHOST:" + port}, flavor...), 200, "t1.x"},
		"host [::1]":            {servicePath + "default/token", append([]string{"Host", "[::1]:" + port}, flavor...), 200, "t1.x"},
		"host of the cloud":     {servicePath + "default/token", append([]string{"Host", "169.254.169.254"}, flavor...), 200, "t1.x"},
		"a foreign host":        {servicePath + "default/token", append([]string{"Host", "evil.example:" + port}, flavor...), 403, "loopback address"},
		"a foreign address":     {servicePath + "default/token", append([]string{"Host", "10.0.0.1"}, flavor...), 403, "loopback address"},
		"localhost as a prefix": {servicePath + "default/token", append([]string{"Host", "localhost.evil.example"}, flavor...), 403, "loopback address"},
		"through a proxy":       {servicePath + "default/token", append([]string{"X-Forwarded-For", "10.0.0.1"}, flavor...), 403, "without a proxy"},
	} {
		a := ask(t, c, http.MethodGet, url+x.path, x.headers...)
		if a.code != x.code || !strings.Contains(a.body, x.body) {
			t.Errorf("%s: %d %s, want %d with %s", name, a.code, a.body, x.code, x.body)
		}
	}
	if a := ask(t, c, http.MethodPost, url+servicePath+"default/token", flavor...); a.code != 405 {
		t.Errorf("POST: %d", a.code)
	}
	d.set(func() {
		st := d.status["bot"]
		st.Health = refresher.Revoked
		d.status["bot"] = st
	})
	a := ask(t, c, http.MethodGet, url+servicePath+"default/token", flavor...)
	if a.code != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("revoked: %d %s", a.code, a.body)
	}
	want := map[string]uint64{"ok": 6, "not_modified": 0, "unavailable": 1, "forbidden": 0}
	for k, n := range want {
		if got := byName["bot"].Reads()[k]; got != n {
			t.Errorf("reads %s: %d, want %d", k, got, n)
		}
	}
}

func TestTheVendorsSDKReadsTheMetadataListener(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	m, byName := serveMetadata(t, d, 0, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	c := credentials.NewMetadataServiceCredentialProvider(m.Addr().String())
	token, err := c.IAMToken(t.Context())
	must(t, err)
	if token.Token != secret("bot", 1).Reveal() {
		t.Errorf("the SDK got %d bytes", len(token.Token))
	}
	if !c.Available(t.Context()) {
		t.Error("the SDK finds no metadata service")
	}
}

func TestSilentConnectionsMakeRoomForOthers(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	m, byName := serveMetadata(t, d, 10, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	resting := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(resting.CloseIdleConnections)
	url := "http://" + m.Addr().String() + servicePath + "default/token"
	wantAnswer(t, ask(t, resting, "GET", url, "Metadata-Flavor", "Google"), 200, "t1.bot-1.")
	var silent []net.Conn
	for range 50 {
		c, err := net.Dial("tcp", m.Addr().String())
		must(t, err)
		defer c.Close()
		silent = append(silent, c)
	}
	other := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(other.CloseIdleConnections)
	wantAnswer(t, ask(t, other, "GET", url, "Metadata-Flavor", "Google"), 200, "t1.bot-1.")
	if n := m.server.Counts().Open; n > 10 {
		t.Errorf("%d connections are open, want at most 10", n)
	}
	if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF && err == nil {
		t.Errorf("the oldest silent connection: %v", err)
	}
	// The one that had asked before the silent ones came was kept.
	kept := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { kept = info.Reused }})
	_, err := try(ctx, resting, "GET", url, "Metadata-Flavor", "Google")
	must(t, err)
	if !kept {
		t.Error("a client that had asked lost its place to silent ones")
	}
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	m, _ := serveMetadata(t, d, 0, "bot")
	second, err := NewMetadataServer(MetadataServerOptions{Listen: m.Addr().String(), Live: d.live()})
	must(t, err)
	wantError(t, second.Listen(), ownListener)
	wantError(t, second.For("bot", false).Check(t.Context()), "listen on "+m.Addr().String())
	proxy, err := NewProxyServer(ProxyServerOptions{Proxy: ProxyOptions{Listen: m.Addr().String()}, Live: d.live()})
	must(t, err)
	wantError(t, proxy.Listen(), ownListener)
	// The status listener may be meant for all addresses.
	if !listenHere(strings.Replace(m.Addr().String(), "127.0.0.1", "0.0.0.0", 1)) {
		t.Error("the port on all addresses is not known to be ours")
	}
	others, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f, err := others.(*net.TCPListener).File()
	must(t, err)
	child := exec.CommandContext(t.Context(), "sleep", "1000")
	child.ExtraFiles = []*os.File{f}
	must(t, child.Start())
	defer child.Wait()
	defer child.Process.Kill()
	must(t, errors.Join(f.Close(), others.Close()))
	_, err = listenTCP(others.Addr().String())
	wantError(t, err, "another process listens there already: stop it or choose another place")
	wantError(t, m.Listen(), "it listens already")
	_, err = NewMetadataServer(MetadataServerOptions{Listen: "0.0.0.0:1"})
	wantError(t, err, "can be reached from outside")
}
