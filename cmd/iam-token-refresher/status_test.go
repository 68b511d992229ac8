package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"iam-token-refresher/refresher/status"
)

func TestTokensOfAllSocketsAreShownInTheOrderOfTheConfiguration(t *testing.T) {
	t.Parallel()
	serve := func(list string) string {
		return socketOf(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"tokens":[` + list + `]}`))
		})
	}
	one := serve(`{"name":"a","state":"fresh"},{"name":"c","state":"fresh"}`)
	two := serve(`{"name":"b","state":"revoked","required":true,"last_failure":"IAM is down"},{"name":"c","state":"fresh"}`)
	gone := filepath.Join(shortDir(t), "gone")
	config := filepath.Join(t.TempDir(), "config.yaml")
	write(t, config, `tokens:
  - {name: c, source: {metadata: {}}, probe: none, sinks: [{socket: {path: `+one+`}}, {socket: {path: `+two+`}}]}
  - {name: b, source: {metadata: {}}, probe: none, sinks: [{socket: {path: `+two+`}}]}
  - {name: a, source: {metadata: {}}, probe: none, sinks: [{socket: {path: `+one+`}}]}
  - {name: filed, source: {metadata: {}}, probe: none, sinks: [{file: {path: /run/filed}}]}
`, 0o600)
	p, err := testApp(t, nil).configured(config)
	if err != nil {
		t.Fatal(err)
	}
	names := func(doc status.Document) (list []string) {
		for _, token := range doc.Tokens {
			list = append(list, token.Name)
		}
		return list
	}

	doc, missing, err := newSurvey(p).take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := names(doc); !slices.Equal(got, []string{"c", "b", "a"}) {
		t.Errorf("tokens %s", got)
	}
	if !slices.Equal(missing.unseen, []string{"filed"}) || len(missing.broken) > 0 || doc.At.IsZero() {
		t.Errorf("missing %q, at %s", missing.words(), doc.At)
	}
	if err := askSockets(t.Context(), p, false); err == nil || err.Error() != "not ready: b: revoked: IAM is down" {
		t.Errorf("health: %v", err)
	}

	p.sockets = []string{gone, one}
	doc, missing, err = newSurvey(p).take(t.Context())
	if got := names(doc); err != nil || !slices.Equal(got, []string{"c", "a"}) || len(missing.broken) != 1 {
		t.Errorf("tokens %s, missing %q, error %v", got, missing.words(), err)
	}
	if err := askSockets(t.Context(), p, false); err == nil || !strings.Contains(err.Error(), "there is no socket "+gone) {
		t.Errorf("health: %v", err)
	}
	if err := askSockets(t.Context(), p, true); err != nil {
		t.Errorf("alive: %v", err)
	}

	p.sockets = []string{gone}
	if _, _, err = newSurvey(p).take(t.Context()); err == nil || exitCode(err) != exitFailed {
		t.Errorf("error %v", err)
	}
}

func TestHealthOfAListenerIsAskedWithoutAProxy(t *testing.T) {
	if os.Getenv("HTTP_PROXY") == "" {
		t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	}
	listen := listenerOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.Error(w, "bot: no value yet: IAM is down", http.StatusServiceUnavailable)
		}
	})
	if err := askListener(t.Context(), listen, true); err != nil {
		t.Error(err)
	}
	_, port, _ := strings.Cut(listen, ":")
	for _, address := range []string{listen, "0.0.0.0:" + port, ":" + port} {
		if err := askListener(t.Context(), address, false); err == nil || err.Error() != "not ready: bot: no value yet: IAM is down" {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A health check is about the daemon. What became of its file since is not its
// subject: an image would be taken for broken after a slip in an edit.
func TestHealthcheckEndsAsTheDaemonIsWhateverBecameOfItsConfiguration(t *testing.T) {
	listen := listenerOf(t, func(http.ResponseWriter, *http.Request) {})
	dir := t.TempDir()
	const (
		token = "tokens: [{name: bot, source: {metadata: {}}, probe: none, sinks: [{file: {path: /run/bot}}]}]\n"
		hint  = "name its status listener with --status-listen, or with ITR_STATUS_LISTEN in place of --config"
	)
	status := "status: {listen: \"" + listen + "\"}\n"
	for i, c := range []struct {
		text string // of the file; none, if empty
		env  string
		args []string
		code int
		says string
	}{
		{text: token + status},
		{text: token + status + "bogus: 1\n"},
		{text: status + "tokens: [\n"},
		{text: token + "status: {listen: x}\n", code: exitFailed, says: hint},
		{text: "bogus: 1\n", code: exitFailed, says: hint},
		{code: exitFailed, says: "there is no such file"},
		{code: exitFailed, says: hint},
		{args: []string{"--status-listen", listen}},
		{env: listen, code: exitFailed, says: "there is no such file"}, // the flag names a file
		{text: token, args: []string{"--socket", "/s"}, code: exitConfig, says: "give one of them"},
	} {
		t.Setenv(envStatusListen, c.env)
		path := filepath.Join(dir, "none.yaml")
		if c.text != "" {
			path = filepath.Join(dir, "config.yaml")
			write(t, path, c.text, 0o600)
		}
		checkHealth(t, i, c.code, c.says, append([]string{"--config", path}, c.args...)...)
		checkHealth(t, i, c.code, c.says, append([]string{"--live", "--config", path}, c.args...)...)
	}
	// The variable of clients is for the socket, and this one for the listener.
	t.Setenv(envStatusListen, listen)
	t.Setenv("ITR_SOCKET", filepath.Join(dir, "none"))
	checkHealth(t, -1, exitDone, "")
	t.Setenv("ITR_CONFIG", filepath.Join(dir, "none.yaml"))
	checkHealth(t, -2, exitDone, "")
	checkHealth(t, -3, exitFailed, "there is no socket", "--socket", filepath.Join(dir, "none"))
}

func checkHealth(t *testing.T, i, code int, says string, args ...string) {
	t.Helper()
	out := scratch(t)
	got := run(t.Context(), nil, append([]string{"healthcheck"}, args...), out, out)
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got != code || !strings.Contains(string(said), says) || code == exitDone && len(said) > 0 {
		t.Errorf("%d: it ended with %d and said %q", i, got, said)
	}
}
