package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// alone starts the program in a way that nothing of what it says is kept:
// values are what it is for.
func (s *scene) alone(args ...string) *process {
	s.Helper()
	p, err := start(s.exec(args...))
	s.try(err)
	s.Cleanup(p.kill)
	return p
}

// printed waits until a watch has printed n values, and returns them.
func (s *scene) printed(p *process, n int) (lines []string) {
	s.Helper()
	if err := p.log.await(`^t1\.`, n); err != nil {
		s.Fatal("the watch has not printed so much: ", strings.Count(p.log.text(), "\n"), " lines")
	}
	for line := range strings.Lines(p.log.text()) {
		if strings.HasPrefix(line, "t1.") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(lines) != n {
		s.Fatalf("the watch has printed %d values, not %d", len(lines), n)
	}
	return lines
}

func TestGetWatchPrintsEachVersionAndOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		watch := s.alone("get", "bot", "--watch", "--socket", "s")
		if lines := s.printed(watch, 1); lines[0] != s.file() {
			t.Error("it does not print the value first")
		}
		s.renews()
		if lines := s.printed(watch, 2); lines[1] != s.file() {
			t.Error("it does not print the new value")
		}
		s.try(s.daemon.signal(syscall.SIGKILL))
		_, err := s.daemon.wait()
		s.try(err)
		s.try(watch.log.await(`^iam-token-refresher: the daemon does not answer: `, 1))
		s.daemon = s.background("again", "run", "--config", "bot.yaml")
		s.ready()
		s.renews()
		// The version that was taken up again was no news.
		if lines := s.printed(watch, 3); lines[2] != s.file() {
			t.Error("after a restart it does not print the new value")
		}
		s.try(watch.signal(syscall.SIGINT))
		if code, err := watch.wait(); code != 0 || err != nil {
			t.Errorf("it ended with %d, %v", code, err)
		}
		s.ends()
		s.do(1, "the daemon does not answer: ", "get", "bot", "--watch", "--socket", s.path("s"))
	})
}

func TestWatchesFollowTheDaemonToAnotherSocket(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		values := s.alone("get", "bot", "--watch", "--config", "bot.yaml")
		table := s.background("table", "status", "--watch", "--config", "bot.yaml")
		s.printed(values, 1)
		s.try(table.log.await(`^bot .* fresh `, 1))
		s.write("bot.yaml", strings.Replace(s.text("bot.yaml"), s.path("s")+"}", s.path("moved")+"}", 1))
		s.do(0, "", "get", "bot", "--wait", "--timeout", "20s", "--config", "bot.yaml")
		s.do(0, "a new version is published", "refresh", "bot", "--config", "bot.yaml")
		if lines := s.printed(values, 2); lines[1] != s.file() {
			t.Error("it does not print the new value")
		}
		s.try(table.log.await(`^bot .* fresh .* 2 +(in|now)`, 1))
		s.do(0, "", "status", "--socket", s.path("moved"))
	})
}

// What the daemon says to a watch that knows a version, and what the watch
// makes of it: it waits, prints what is new, and ends when its token is gone.
func TestGetWatchNamesTheVersionItHas(t *testing.T) {
	t.Parallel()
	var asked []string
	answers := []struct {
		code       int
		etag, body string
	}{
		{200, `"a-1"`, `{"value":"one"}`},
		{304, "", ""},
		{503, "", `{"error":"unavailable","reason":"revoked"}`},
		{503, "", `{"error":"unavailable","reason":"revoked"}`},
		{200, `"b-1"`, `{"value":"one"}`}, // a new lineage of the same value
		{500, "", ""},
	}
	path := socketOf(t, func(w http.ResponseWriter, r *http.Request) {
		a := answers[len(asked)]
		asked = append(asked, r.Header.Get("If-None-Match")+" "+r.Header.Get("Prefer"))
		w.Header().Set("ETag", a.etag)
		w.WriteHeader(a.code)
		_, _ = io.WriteString(w, a.body)
	})
	stdout, stderr := scratch(t), scratch(t)
	code := run(t.Context(), nil, []string{"get", "bot", "--watch", "--socket", path}, stdout, stderr)
	if got, want := strings.Join(asked, ","), ` ,"a-1" wait=60,"a-1" wait=60,"a-1" wait=60,"a-1" wait=60,"b-1" wait=60`; got != want {
		t.Errorf("it asked %s\nand not    %s", got, want)
	}
	out, err := os.ReadFile(stdout.Name())
	if err != nil || string(out) != "one\n" {
		t.Errorf("it printed %q, %v", out, err)
	}
	said, err := os.ReadFile(stderr.Name())
	if err != nil || strings.Count(string(said), "revoked\n") != 1 || strings.Count(string(said), "\n") != 2 || code != exitFailed {
		t.Errorf("it ended with %d and said %q, %v", code, said, err)
	}
}

func scratch(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestGetWatchEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		r, w, err := os.Pipe()
		s.try(err)
		cmd := s.exec("get", "bot", "--watch", "-o", "json", "--socket", "s")
		cmd.Stdout = w
		s.try(cmd.Start())
		s.Cleanup(func() { _ = cmd.Process.Kill() })
		s.try(w.Close())
		s.try(r.SetReadDeadline(time.Now().Add(patience)))
		var v value
		s.try(json.NewDecoder(r).Decode(&v))
		if v.Value != s.file() {
			t.Error("it does not print the value first")
		}
		s.try(r.Close())
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestGetWaitsForTheFirstValue(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		early := s.alone("get", "bot", "--wait", "--socket", "s")
		s.inject(iamDown)
		s.run(plot{})
		s.logged(`"msg":"refresh failed`)
		s.do(1, `get token "bot": there is no value yet: .*UNAVAILABLE`, "get", "bot", "--socket", s.path("s"))
		began := time.Now()
		s.do(1, `get token "bot": there is no value yet: .*UNAVAILABLE`, "get", "bot", "--wait", "--timeout", "300ms", "--socket", s.path("s"))
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("it waited %s", took)
		}
		select {
		case <-early.ended:
			t.Fatal("it did not wait")
		default:
		}
		s.cloud.ClearFaults()
		s.renews()
		if code, err := early.wait(); code != 0 || err != nil {
			t.Errorf("it ended with %d, %v: %s", code, err, early.log.text())
		}
		if strings.TrimSuffix(early.log.text(), "\n") != s.file() {
			t.Error("it printed something else than the value")
		}
	})
}

// output runs the program and returns what it writes to its standard output.
func (s *scene) output(stdin string, env []string, args ...string) (text string, code int) {
	s.Helper()
	cmd := s.exec(args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	s.say(stderr.String())
	return strings.TrimSuffix(stdout.String(), "\n"), cmd.ProcessState.ExitCode()
}

func TestGetPrintsWhatOtherToolsSpeak(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		value, st := s.file(), s.status()
		ends := st.ExpiresAt.UTC().Format(time.RFC3339)
		credential := func(version string) string {
			return `{"apiVersion":"client.authentication.k8s.io/` + version + `","kind":"ExecCredential","status":{"expirationTimestamp":"` + ends + `","token":"` + value + `"}}`
		}
		info := func(version string) []string {
			return []string{envExecInfo + `={"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/` + version + `","spec":{"interactive":false}}`}
		}
		for name, c := range map[string]struct {
			args []string
			env  []string
			want string
			code int
		}{
			"a line for sh and docker":       {args: []string{"--format", "env"}, want: "YC_TOKEN=" + value},
			"with a name of one's own":       {args: []string{"-o", "env", "--env-var", "IAM_TOKEN"}, want: "IAM_TOKEN=" + value},
			"with a name that is none":       {args: []string{"-o", "env", "--env-var", "A B"}, code: 78},
			"a header":                       {args: []string{"--format", "header"}, want: "Authorization: Bearer " + value},
			"kubectl's plugin":               {args: []string{"--format", "exec-credential"}, want: credential("v1")},
			"kubectl's plugin, as asked":     {args: []string{"--format", "exec-credential"}, env: info("v1"), want: credential("v1")},
			"kubectl's plugin of before":     {args: []string{"--format", "exec-credential"}, env: info("v1beta1"), want: credential("v1beta1")},
			"kubectl's plugin of the future": {args: []string{"--format", "exec-credential"}, env: info("v2"), code: 78},
			"kubectl's plugin, with rubbish": {args: []string{"--format", "exec-credential"}, env: []string{envExecInfo + "=x"}, code: 78},
			"a token named by a variable":    {args: []string{}, env: []string{"ITR_TOKEN=bot"}, want: value},
			"a token that is not there":      {args: []string{}, env: []string{"ITR_TOKEN=nope"}, code: 1},
		} {
			text, code := s.output("", c.env, append([]string{"get", "--socket", "s"}, c.args...)...)
			if code != c.code || text != c.want {
				t.Errorf("%s: it ended with %d and printed %d bytes, not %d and %d", name, code, len(text), c.code, len(c.want))
			}
		}
	})
}

func TestDockerIsGivenTheTokenForTheCloudsRegistriesAlone(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		socket := "ITR_SOCKET=" + s.path("s")
		given := func(server string) string {
			return `{"ServerURL":"` + server + `","Username":"iam","Secret":"` + s.file() + `"}`
		}
		for _, c := range []struct {
			action, stdin, env, want string
			code                     int
		}{
			{"get", "cr.yandex\n", socket, given("cr.yandex"), 0},
			{"get", "https://cr.yandex/v2/", socket, given("https://cr.yandex/v2/"), 0},
			{"get", "registry.yandexcloud.net:443", socket, given("registry.yandexcloud.net:443"), 0},
			{"get", "CR.Yandex", socket, given("CR.Yandex"), 0},
			{"get", "cr.yandexcloud.kz", socket, given("cr.yandexcloud.kz"), 0},
			{"get", "https://registry.example/v1/", socket, "credentials not found in native keychain", 1},
			{"get", "cr.yandex.evil.example", socket, "credentials not found in native keychain", 1},
			{"get", "https://evil.example/cr.yandex", socket, "credentials not found in native keychain", 1},
			{"get", "evil.example/x://cr.yandex", socket, "credentials not found in native keychain", 1},
			{"get", "https://evil.example/x://cr.yandex/", socket, "credentials not found in native keychain", 1},
			{"get", "evil.example#cr.yandex", socket, "credentials not found in native keychain", 1},
			{"get", "cr.yandex@evil.example", socket, "credentials not found in native keychain", 1},
			{"get", "cr.yandex:5000", socket, "credentials not found in native keychain", 1},
			{"get", "anybody.apigw.yandexcloud.net", socket, "credentials not found in native keychain", 1},
			{"get", "\n", socket, "no credentials server URL", 1},
			{"get", "cr.yandex", "ITR_SOCKET=/none/s", "the daemon does not answer: there is no socket /none/s (from ITR_SOCKET): is it running? Name another with --socket, ITR_SOCKET or --config", 1},
			{"list", "", socket, `{"container-registry.cloud.yandex.net":"iam","cr.cloud.yandex.net":"iam","cr.yandex":"iam","cr.yandexcloud.kz":"iam","registry.yandexcloud.net":"iam"}`, 0},
			{"store", `{"ServerURL":"cr.yandex","Username":"iam","Secret":"x"}`, socket, "docker-credential-iam-token-refresher store: nothing is stored here: the token comes from the running daemon, docker login and logout are not needed", 1},
			{"erase", "cr.yandex", socket, "docker-credential-iam-token-refresher erase: nothing is stored here: the token comes from the running daemon, docker login and logout are not needed", 1},
			{"sing", "", socket, "", 78},
		} {
			text, code := s.output(c.stdin, []string{c.env}, "docker-credential", c.action)
			if code != c.code || text != c.want {
				t.Errorf("%s %q: it ended with %d, not %d", c.action, c.stdin, code, c.code)
				if !strings.Contains(text, "t1.") {
					t.Logf("it says %q, not %q", text, c.want)
				}
			}
		}
		text, code := s.output("localhost:5000", []string{socket, "ITR_REGISTRIES=127.0.0.1:5000,localhost:5000"}, "docker-credential", "get")
		if code != 0 || text != given("localhost:5000") {
			t.Errorf("a registry of one's own: it ended with %d", code)
		}
	})
}

func TestItIsDockersHelperByItsName(t *testing.T) {
	t.Parallel()
	for argv, want := range map[string]string{
		"/usr/bin/docker-credential-iam-token-refresher get": "docker-credential get",
		"docker-credential-iam-token-refresher":              "docker-credential",
		"iam-token-refresher get bot":                        "get bot",
		"iam-token-refresher":                                "",
		"":                                                   "",
	} {
		if got := strings.Join(arguments(strings.Fields(argv)), " "); got != want {
			t.Errorf("%q is taken for %q, not %q", argv, got, want)
		}
	}
}
