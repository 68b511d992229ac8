package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
	"iam-token-refresher/refresher/emulator"
	"iam-token-refresher/refresher/oauth"
	"iam-token-refresher/refresher/probe"
)

// loggingIn is "login" at work.
type loggingIn struct {
	*scene
	p     *process
	stdin io.WriteCloser
}

// login starts the program, with the application of the cloud.
func (s *scene) login(args ...string) *loggingIn {
	s.Helper()
	s.write("secret", emulator.ClientSecret)
	return s.bareLogin(append([]string{"--client-secret-file", s.path("secret")}, args...)...)
}

func (s *scene) bareLogin(args ...string) *loggingIn {
	s.Helper()
	at := s.cloud.Endpoints()
	cmd := s.exec(append([]string{
		"login", "--client-id", emulator.ClientID, "--token-file", s.path("login"),
		"--ca-file", s.path("cloud/ca.pem"), "--endpoint-oauth", at.OAuth, "--endpoint-tracker", at.Tracker,
	}, args...)...)
	stdin, err := cmd.StdinPipe()
	s.try(err)
	p, err := start(cmd)
	s.try(err)
	s.daemons[fmt.Sprintf("login %d", len(s.daemons))] = p
	return &loggingIn{s, p, stdin}
}

// says waits for words.
func (l *loggingIn) says(pattern string) {
	l.Helper()
	l.scene.try(l.p.log.await(pattern, 1))
}

// ends wants an exit code and words.
func (l *loggingIn) ends(code int, words ...string) {
	l.Helper()
	got, err := l.p.wait()
	l.try(err)
	if got != code {
		l.Errorf("login ended with %d and not %d:\n%s", got, code, l.p.log.text())
	}
	for _, w := range words {
		l.matches("login says", l.p.log.text(), w)
	}
	if _, err := os.Stat(l.path("login")); code != 0 && err == nil && !strings.Contains(l.p.log.text(), "is stored") {
		l.Error("there is a login all the same")
	}
}

// decide is the person entering the code.
func (l *loggingIn) decide(decision emulator.Decision) {
	l.Helper()
	l.says(`code: \S+`)
	code := regexp.MustCompile(`code: (\S+)`).FindStringSubmatch(l.p.log.text())[1]
	l.try(l.cloud.DecideDevice(code, decision))
}

// page is the address that the person is to open.
func (l *loggingIn) page() string {
	l.Helper()
	l.says(`^  https://`)
	return regexp.MustCompile(`(?m)^  (https://.*)$`).FindStringSubmatch(l.p.log.text())[1]
}

// browse is the person pressing a button on a page, and where that leads.
func (l *loggingIn) browse(page string, decision emulator.Decision) *url.URL {
	l.Helper()
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: l.cloud.TLS(), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.PostForm(page, url.Values{"decision": {string(decision)}})
	l.try(err)
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		body, _ := io.ReadAll(resp.Body)
		l.Fatalf("the page leads nowhere: %v: %s", err, body)
	}
	return to
}

// answers writes a line to the program.
func (l *loggingIn) answers(text string) {
	l.Helper()
	_, err := io.WriteString(l.stdin, text)
	l.try(errors.Join(err, l.stdin.Close()))
}

// oauthSource is the source that keeps the login.
const oauthSource = "oauth: {client_id: " + emulator.ClientID + ", client_secret_file: $S/secret, token_file: $S/login}"

// works runs a daemon on the login.
func (l *loggingIn) works() {
	l.Helper()
	l.run(plot{source: oauthSource, probe: "tracker: {org_id: \"" + emulator.OrgID + "\"}"})
	l.ready()
	if v := l.read(); v.code != 200 || v.Verdict != "accepted" || v.Type != "oauth" || v.Value != l.file() {
		l.Errorf("the socket answers %d, %s, type %s", v.code, v.Verdict, v.Type)
	}
	l.scene.ends()
}

const (
	org360 = "--org-id=" + emulator.OrgID
	proven = `The login is stored in .*/login, and its token lives until .*200, the account is person\. The login works\.`
)

func TestLoginOnADevice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options emulator.Options
		args    []string
		play    func(*loggingIn)
	}{
		"proven, and a daemon keeps it": {play: func(l *loggingIn) {
			l.decide(emulator.Approve)
			l.ends(0, proven, `source: \{oauth: \{client_id: "`+emulator.ClientID+`", client_secret_file: "/.*/secret", token_file: "/.*/login"\}\}`, `org_id: "`+emulator.OrgID+`"`)
			l.works()
			if n := l.cloud.Calls()["oauth/slow_down"]; n != 0 {
				l.Errorf("it polled too often %d times", n)
			}
		}},
		"the person takes some time": {play: func(l *loggingIn) {
			l.says(`code: `)
			l.try(l.calls.await("authorization_pending", 3)) // a second each
			l.decide(emulator.Approve)
			l.ends(0, proven)
			if n := l.cloud.Calls()["oauth/slow_down"]; n != 0 {
				l.Errorf("it polled too often %d times", n)
			}
		}},
		"the person denies": {play: func(l *loggingIn) {
			l.decide(emulator.Deny)
			l.ends(1, "access was denied on the page: run the command again")
		}},
		"the code is declared": {play: func(l *loggingIn) { l.decide(emulator.Expire); l.ends(1, "the code has expired before it was entered") }},
		"the code expires": {options: emulator.Options{DeviceLifetime: 2 * time.Second}, play: func(l *loggingIn) {
			l.ends(1, "the code has expired before it was entered: run the command again")
		}},
		"slow_down is obeyed": {play: func(l *loggingIn) {
			l.try(l.cloud.Inject(emulator.Fault{Service: "oauth", Method: "token", Kind: emulator.KindError, Status: 400, Code: "slow_down", Count: 1}))
			began := time.Now()
			l.decide(emulator.Approve)
			l.ends(0, proven)
			if took := time.Since(began); took < 6*time.Second { // what is left of the first second, and 1 + 5
				l.Errorf("it asked again within %s", took)
			}
		}},
		"the network fails meanwhile": {play: func(l *loggingIn) {
			l.try(l.cloud.Inject(emulator.Fault{Service: "oauth", Method: "token", Kind: emulator.KindReset, Count: 1}))
			l.try(l.cloud.Inject(emulator.Fault{Service: "oauth", Method: "token", Kind: emulator.KindStatus, Status: 502, Count: 1}))
			l.decide(emulator.Approve)
			l.ends(0, proven)
		}},
		"a scope": {args: []string{"--scope", "tracker:read"}, play: func(l *loggingIn) { l.decide(emulator.Approve); l.ends(0, proven) }},
		"a scope that the application has not got": {args: []string{"--scope", "disk:all"}, play: func(l *loggingIn) {
			l.ends(1, "refused: invalid_scope: the application has not got these permissions")
		}},
		"the other header": {args: []string{"--org-id=" + emulator.CloudOrgID}, play: func(l *loggingIn) {
			l.decide(emulator.Approve)
			l.ends(0, "Tracker wants this organization as cloud_org_id and not as org_id", `tracker: \{cloud_org_id: "`+emulator.CloudOrgID+`"\}`)
		}},
		"no access": {args: []string{"--org-id=1"}, play: func(l *loggingIn) {
			l.decide(emulator.Approve)
			l.ends(1, "The login is stored in", "Tracker does not let it in: .*403")
		}},
		"given up": {play: func(l *loggingIn) {
			l.says(`Waiting until`)
			l.try(l.p.signal(syscall.SIGINT))
			l.ends(1, "the login was given up")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.options.DeviceInterval == 0 {
				c.options.DeviceInterval = time.Second
			}
			play(t, c.options, func(s *scene) {
				args := c.args
				if len(args) == 0 || !strings.Contains(args[0], "org-id") {
					args = append(args, org360)
				}
				c.play(s.login(args...))
			})
		})
	}
}

func TestLoginWithACode(t *testing.T) {
	t.Parallel()
	for name, play1 := range map[string]func(*loggingIn){
		"that is pasted": func(l *loggingIn) {
			l.answers(l.browse(l.page(), emulator.Approve).Query().Get("code") + "\n")
			l.ends(0, proven)
			l.works()
		},
		"in the whole address": func(l *loggingIn) {
			l.answers(l.browse(l.page(), emulator.Approve).String())
			l.ends(0, proven)
		},
		"of another login": func(l *loggingIn) {
			to := l.browse(l.page(), emulator.Approve)
			q := to.Query()
			q.Set("state", "another")
			to.RawQuery = q.Encode()
			l.answers(to.String())
			l.ends(1, "its state is not ours")
		},
		"that somebody else's browser got": func(l *loggingIn) { // PKCE
			u, err := url.Parse(l.page())
			l.try(err)
			q := u.Query()
			q.Del("code_challenge")
			q.Set("code_challenge", strings.Repeat("A", 43))
			u.RawQuery = q.Encode()
			l.answers(l.browse(u.String(), emulator.Approve).Query().Get("code"))
			l.ends(1, "refused: invalid_grant: the code is wrong")
		},
		"that is wrong": func(l *loggingIn) {
			l.page()
			l.answers("1234567\n")
			l.ends(1, "refused: bad_verification_code: the code is wrong, was used before, or is older than ten minutes")
		},
		"that is unknown": func(l *loggingIn) {
			l.page()
			l.answers("abcdefghijklmnop\n")
			l.ends(1, "refused: invalid_grant: the code is wrong")
		},
		"for a token that has expired": func(l *loggingIn) {
			l.inject(emulator.Fault{Service: emulator.ServiceOAuth, Method: "token", Kind: emulator.KindExpired})
			l.answers(l.browse(l.page(), emulator.Approve).String())
			l.ends(1, "the token it gave has expired")
		},
		"denied": func(l *loggingIn) {
			l.answers(l.browse(l.page(), emulator.Deny).String())
			l.ends(1, "access was denied on the page")
		},
		"that is not given": func(l *loggingIn) {
			l.page()
			l.answers("")
			l.ends(1, "there is no terminal")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, emulator.Options{}, func(s *scene) { play1(s.login("--code", org360)) })
		})
	}
}

func TestLoginWithACodeThatTheBrowserBrings(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		bring := func(to string) int {
			code, _ := s.get(http.DefaultClient, to)
			return code
		}
		at := loopback(t)
		l := s.login("--listen", at, org360)
		l.page()
		if code := bring("http://" + at + "/?code=abcdefghijklmnop&state=another"); code != 400 {
			t.Errorf("another login's answer got %d", code)
		}
		if code := bring("http://" + at + "/favicon.ico"); code != 404 {
			t.Errorf("a strange request got %d", code)
		}
		to := l.browse(l.page(), emulator.Approve)
		if to.Host != at || bring(to.String()) != 200 {
			t.Errorf("the browser was sent to %s", to.Host)
		}
		l.ends(0, proven)

		s.try(os.Remove(s.path("login")))
		l = s.login("--listen", at, org360)
		bring(l.browse(l.page(), emulator.Deny).String())
		l.ends(1, "access was denied on the page")
		l = s.login("--listen", "192.0.2.1:80")
		l.ends(78, "it must be a loopback address")
	})
}

func TestLoginWithAPastedToken(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		token := s.cloud.NewLogin("").AccessToken
		l := s.bareLogin("--paste", org360)
		l.answers(token + "\n")
		l.ends(0, "it cannot be refreshed: log in again before it ends", "The login works")
		if strings.Contains(l.p.log.text(), token) || strings.Contains(strings.Join(l.p.cmd.Args, " "), token) {
			t.Error("the token shows")
		}
		s.write("secret", emulator.ClientSecret)
		l.works()
		s.try(os.Remove(s.path("login")))
		l = s.bareLogin("--paste", org360)
		l.answers("https://oauth.yandex.com/verification_code#access_token=" + token + "&token_type=bearer&expires_in=31536000")
		l.ends(0, "its token lives until")
		s.try(os.Remove(s.path("login")))
		for text, words := range map[string]string{
			"": "there is no terminal", "two words": "has a blank", "https://oauth.yandex.com/#error=access_denied": "is empty",
		} {
			l := s.bareLogin("--paste")
			l.answers(text)
			l.ends(1, words)
		}
		l = s.bareLogin("--paste", org360)
		l.answers("y0_nobodyknowsthistokenatall")
		l.ends(1, "Tracker does not take it: .*401")
	})
}

func TestLoginRefusesWhatCannotEndWell(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.bareLogin("--client-secret-file", s.path("none")).ends(78, "client secret file .*/none does not exist: write the secret into it", "try: iam-token-refresher login --help")
		s.bareLogin().ends(78, "--client-secret-file is missing")
		s.login("--token-file", s.path("none/login")).ends(78, "create the directory")
		s.write("other", `{"private_key": "…"}`)
		s.login("--token-file", s.path("other")).ends(78, "holds something else than a login: it is not overwritten")
		s.login("--token-file", s.path("secret")).ends(78, "are the same file")
		s.login("--client-id", "rm -rf").ends(78, "is not the id of an application")
		s.login("--org-id", "a b").ends(78, "the organization:")
		s.login(org360, "--cloud-org-id=x").ends(78, "the organization:")
		s.login("--code", "--paste").ends(78, "are two ways to log in")
		s.login("--endpoint-oauth", "http://oauth.example.com").ends(78, "would send secrets in the clear")
		s.login("--ca-file", s.path("secret")).ends(78, "it holds no certificate")
		s.login("--client-id", "another").ends(1, "refused: invalid_client")
	})
}

// On a terminal the secret is asked for, and neither it nor a token is echoed.
func TestLoginOnATerminalHidesSecrets(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("there is no script(1) to make a terminal")
	}
	play(t, emulator.Options{DeviceInterval: time.Second}, func(s *scene) {
		at := s.cloud.Endpoints()
		program := s.exec(
			"login", "--client-id", emulator.ClientID, "--token-file", s.path("login"), "--client-secret-file", s.path("asked"),
			"--ca-file", s.path("cloud/ca.pem"), "--endpoint-oauth", at.OAuth, "--endpoint-tracker", at.Tracker, org360)
		cmd := exec.Command("script", "-qec", strings.Join(program.Args, " "), "/dev/null")
		cmd.Args[2] = strings.Join(append([]string{program.Path}, program.Args[1:]...), " ")
		cmd.Env, cmd.Dir = append(program.Env, "TERM=dumb"), program.Dir
		stdin, err := cmd.StdinPipe()
		s.try(err)
		p, err := start(cmd)
		s.try(err)
		s.daemons["terminal"] = p
		l := &loggingIn{s, p, stdin}
		s.try(awaitText(p.log, "it is not shown"))
		_, err = io.WriteString(stdin, emulator.ClientSecret+"\n")
		s.try(err)
		l.decide(emulator.Approve)
		l.ends(0, "The secret is stored in", "The login works")
		if strings.Contains(p.log.text(), emulator.ClientSecret) {
			t.Error("the secret shows")
		}
		if st, err := os.Stat(s.path("asked")); err != nil || st.Mode() != 0o600 {
			t.Errorf("its file: %v, %v", st, err)
		}
	})
}

// awaitText waits for a text that need not end a line.
func awaitText(log *lineLog, text string) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		log.mu.Lock()
		said, more, ended := log.buf.String(), log.more, log.ended
		log.mu.Unlock()
		switch {
		case strings.Contains(said, text):
			return nil
		case ended:
			return fmt.Errorf("it ended without %q: %s", text, said)
		}
		select {
		case <-more:
		case <-timer.C:
			return fmt.Errorf("it does not say %q: %s", text, said)
		}
	}
}

func TestTheLinesForTheConfigurationMeanThePathsThatWereGiven(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/a/plain-path", "/a $HOME/${UNSET}/$$", `/it's "quoted" \ # here: {}`, "/путь"} {
		out, err := os.Create(t.TempDir() + "/out")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		l := &login{app: &app{stdout: &answers{file: out}, stderr: out}, clientID: "id", secretFile: path, tokenFile: path + "2"}
		l.configuration(probe.TrackerOptions{})
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		_, lines, _ := strings.Cut(string(text), "\n\n")
		c, err := config.Parse("lines", []byte(lines), daemon.Kinds(), config.LoadOptions{})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if o := c.Tokens[0].Source.Options.(*oauth.Options); o.ClientSecretFile != path || o.TokenFile != path+"2" {
			t.Errorf("%s becomes %+v", path, o)
		}
	}
}
