package sink

import (
	"net/http"
	"strings"
	"testing"
)

func TestOnlyThoseAllowedUseTheProxy(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, ok)
	p, e, _ := newProxy(t, d, a.upstream(t), ProxyServerOptions{Proxy: ProxyOptions{Allow: &Allow{Users: []string{"grafana"}, Groups: []string{"bots"}}}})
	d.publish(t, version("bot", 1), e)
	kept := dialAs(t, p.Path(), 1234, 1234)
	for name, c := range map[string]struct {
		client *http.Client
		code   int
	}{
		"the user": {kept, 200}, "a member": {dialAs(t, p.Path(), 77, 77, 2345), 200}, "root": {dialAs(t, p.Path(), 0, 0), 200},
		"somebody": {dialAs(t, p.Path(), 77, 77), 403}, "nobody": {dialAs(t, p.Path(), 65534, 65534), 403},
	} {
		got := ask(t, c.client, http.MethodGet, "/v3/myself")
		if got.code != c.code || strings.Contains(got.body, "bot") {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
	}
	if reads := e.Reads(); reads["ok"] != 3 || reads["forbidden"] != 2 {
		t.Errorf("counted %v", reads)
	}
	if n := len(a.requests()); n != 3 {
		t.Errorf("%d requests reached the API", n)
	}
	fewer, err := p.For("bot", &Allow{Groups: []string{"bots"}}, accounts(), a.upstream(t))
	must(t, err)
	p.Update(fewer)
	if got, err := try(t.Context(), kept, http.MethodGet, "/v3/myself"); err == nil {
		t.Errorf("one who may no longer use it goes on: %d", got.code)
	}
}

func TestAConnectionToTheProxyEndsWithTheRightToConnect(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, ok)
	p, e, _ := newProxy(t, d, a.upstream(t), ProxyServerOptions{Proxy: ProxyOptions{Allow: &Allow{Users: []string{"grafana"}}}})
	d.publish(t, version("bot", 1), e)
	refused, root := dialAs(t, p.Path(), 77, 77), dialAs(t, p.Path(), 0, 0)
	wantAnswer(t, ask(t, refused, http.MethodGet, "/v3/myself"), 403, "may not use this proxy")
	must(t, p.SetSocket(SocketOptions{Mode: 0o600}, accounts()))
	open, err := p.For("bot", nil, accounts(), a.upstream(t))
	must(t, err)
	p.Update(open)
	if got, err := try(t.Context(), refused, http.MethodGet, "/v3/myself"); err == nil {
		t.Errorf("one who could not connect any more is answered %d", got.code)
	}
	wantAnswer(t, ask(t, root, http.MethodGet, "/v3/myself"), 200, "fine")
}
