package daemon

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

func TestWhoAsksForAReloadIsAnsweredOnASocketThatGoesWithIt(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	g.opt.ConfigPath = "" // nobody else notices the change
	g.run()
	g.logged("ready")
	old, moved := filepath.Join(g.dir, "itr.sock"), filepath.Join(g.dir, "moved.sock")
	ask := func(socket, method, path string) (*http.Response, error) {
		t.Helper()
		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return transport.RoundTrip(req)
	}
	for _, way := range [][2]string{{old, moved}, {moved, old}} {
		g.edit(way[0], way[1])
		resp, err := ask(way[0], http.MethodPost, "/v1/reload")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s to %s: %s", way[0], way[1], resp.Status)
		}
		if resp, err = ask(way[1], http.MethodGet, "/v1/tokens/bot"); err != nil {
			t.Error(err)
		} else if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("at %s: %s", way[1], resp.Status)
		}
	}
}

func TestAFileThatChangesWhileItsFirstValueIsProvenIsReadAgain(t *testing.T) {
	t.Parallel()
	g := start(t)
	probed, answer := make(chan struct{}, 10), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		probed <- struct{}{}
		<-answer
		w.WriteHeader(http.StatusOK)
	}))
	defer api.Close()
	in, out := filepath.Join(g.dir, "in.token"), filepath.Join(g.dir, "out.token")
	g.replace("in.token", []byte("first-value"))
	g.edit("  - name: bot", strings.NewReplacer("IN", in, "OUT", out, "URL", api.URL).Replace(
		`  - {name: file, source: {token_file: {path: "IN"}}, probe: {http: {url: "URL", headers: {Authorization: "Bearer {{.Value}}"}}, schedule: "@every 8000h"}, refresh: {schedule: "@every 8000h"}, sinks: [{file: {path: "OUT"}}]}`+"\n  - name: bot"))
	select {
	case <-probed:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is probed")
	}
	g.replace("in.token", []byte("second-value"))
	close(answer)
	g.logged("configuration changed")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := g.refresher.Await(ctx, "file", func(s refresher.Status) bool {
		return s.Version != nil && s.Version.N == 2 && s.Sinks[0].Current
	}); err != nil || g.content("out.token") != "second-value" {
		s, _ := g.refresher.Snapshot("file")
		t.Errorf("%v, it holds %q, %+v", err, g.content("out.token"), s)
	}
}
