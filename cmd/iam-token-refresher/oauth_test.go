package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// keptLogin is the file of a login, as the program writes it.
type keptLogin struct {
	About        string    `json:"about"`
	ClientID     string    `json:"client_id"`
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	IssuedAt     time.Time `json:"issued_at"`
	ExpiresAt    time.Time `json:"expires_at"`
}

// keepsLogin stores a login whose token was issued a while ago and lives a year.
func (s *scene) keepsLogin(age time.Duration) keptLogin {
	s.Helper()
	s.write("secret", emulator.ClientSecret)
	got := s.cloud.NewLogin("")
	l := keptLogin{
		"a Yandex OAuth login, kept by iam-token-refresher: secret", emulator.ClientID, got.AccessToken, got.RefreshToken,
		time.Now().Add(-age).UTC().Truncate(time.Second), got.Expires.Add(-age),
	}
	b, err := json.Marshal(l)
	s.try(err)
	s.write("login", string(b))
	return l
}

func (s *scene) kept() (l keptLogin) {
	s.Helper()
	b, err := os.ReadFile(s.path("login"))
	s.try(err)
	s.try(json.Unmarshal(b, &l))
	return l
}

// aDay is a day; old logins are past a third of their year, and overdue ones
// past it all.
const (
	aDay    = 24 * time.Hour
	old     = 130 * aDay
	overdue = 400 * aDay
)

var orgProbe = `tracker: {org_id: "` + emulator.OrgID + `"}`

func (s *scene) runLogin() { s.Helper(); s.run(plot{source: oauthSource, probe: orgProbe}) }

// dies kills the daemon, and waits for its end.
func (s *scene) dies() {
	s.Helper()
	s.try(s.daemon.signal(syscall.SIGKILL))
	_, err := s.daemon.wait()
	s.try(err)
}

func (s *scene) exchanges() int { return s.cloud.Calls()["oauth/token"] }

// The daemon is killed at each step around storing what the server rotated.
func TestARotatedLoginSurvivesKills(t *testing.T) {
	t.Parallel()
	oauthFault := func(kind string, latency time.Duration) emulator.Fault {
		return emulator.Fault{Service: "oauth", Method: "token", Kind: kind, Latency: latency}
	}
	for name, c := range map[string]struct {
		grace   time.Duration
		fault   emulator.Fault
		until   string // in the cloud's log, or in ours
		rotated bool   // the file has the new pair already
	}{
		"before the server has heard":  {fault: oauthFault(emulator.KindHang, 0), until: "call hangs"},
		"before the server's answer":   {grace: time.Hour, fault: oauthFault(emulator.KindLate, time.Minute), until: "answer is held back"},
		"after it was stored":          {fault: emulator.Fault{Service: "tracker", Kind: emulator.KindHang}, until: "service=tracker", rotated: true},
		"after the value is published": {until: `"msg":"ready"`, rotated: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, emulator.Options{RefreshGrace: c.grace}, func(s *scene) {
				before := s.keepsLogin(old)
				if c.fault.Kind != "" {
					s.try(s.cloud.Inject(c.fault))
				}
				s.runLogin()
				if strings.HasPrefix(c.until, `"msg"`) {
					s.logged(c.until)
				} else {
					s.try(s.calls.await(c.until, 1))
				}
				if got, err := os.ReadFile(s.path("bot.token")); (err == nil) != (c.fault.Kind == "") {
					t.Errorf("a value of %d bytes is published: %v", len(got), err)
				}
				s.dies()
				kept := s.kept()
				if rotated := kept.RefreshToken != before.RefreshToken; rotated != c.rotated || rotated != (kept.AccessToken != before.AccessToken) {
					t.Errorf("the file has the new pair: %v", rotated)
				}
				s.cloud.ClearFaults()
				n := s.exchanges()
				s.runLogin()
				s.ready()
				after := s.kept()
				if v := s.read(); v.code != 200 || v.Value != after.AccessToken || after.AccessToken == before.AccessToken {
					t.Error("what is served is not the new token in the file")
				}
				if again := s.exchanges() - n; (again == 0) != c.rotated {
					t.Errorf("the next daemon made %d exchanges", again)
				}
				// What is in the file is good for the next refresh.
				if _, err := s.refreshed(after.RefreshToken); err != nil {
					t.Error(err)
				}
				s.ends()
			})
		})
	}
}

// refreshed uses a refresh token up.
func (s *scene) refreshed(token string) (code int, err error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.cloud.TLS(), DisableKeepAlives: true}}
	resp, err := client.PostForm(s.cloud.Endpoints().OAuth+"/token", map[string][]string{
		"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {emulator.ClientID}, "client_secret": {emulator.ClientSecret},
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the refresh token in the file is worthless: %s", resp.Status)
	}
	return resp.StatusCode, err
}

// A daemon that is told to stop brings the exchange to its end.
func TestAStopDuringARefreshLosesNothing(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		before := s.keepsLogin(old)
		s.try(s.cloud.Inject(emulator.Fault{Service: "oauth", Method: "token", Kind: emulator.KindLate, Latency: time.Second}))
		s.runLogin()
		s.try(s.calls.await("answer is held back", 1))
		s.try(s.daemon.signal(syscall.SIGTERM))
		if code, err := s.daemon.wait(); code != 0 || err != nil {
			t.Errorf("it ended with %d, %v", code, err)
		}
		if s.kept().RefreshToken == before.RefreshToken {
			t.Error("the refresh token was lost")
		}
	})
}

// Kills while the file is being replaced, as soon as the directory shows it.
func TestKillsDuringTheWriteLeaveAGoodLogin(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{RefreshGrace: time.Hour}, func(s *scene) {
		watcher, err := fsnotify.NewWatcher()
		s.try(err)
		defer watcher.Close()
		for i := range 12 {
			l := s.keepsLogin(old) // another login, as a person would
			s.try(watcher.Add(s.dir))
			s.runLogin()
			timeout := time.NewTimer(patience)
			for seen := 0; seen <= i%4; { // made, filled, its mode set, renamed
				select {
				case e := <-watcher.Events:
					if name := filepath.Base(e.Name); strings.Contains(name, "login") && !strings.HasSuffix(name, ".lock") {
						seen++
					}
				case <-timeout.C:
					t.Fatal("nothing was written")
				}
			}
			timeout.Stop()
			s.dies()
			s.try(watcher.Remove(s.dir))
			for len(watcher.Events) > 0 {
				<-watcher.Events
			}
			if now := s.kept(); now.RefreshToken != l.RefreshToken {
				l = now
			}
			if _, err := s.refreshed(l.RefreshToken); err != nil {
				t.Fatalf("after kill %d: %v", i, err)
			}
		}
	})
}

func TestALoginThatIsOverSaysHowToLogInAgain(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		l := s.keepsLogin(old)
		s.cloud.Revoke(l.RefreshToken)
		s.runLogin()
		s.ready() // the token itself lives on
		if s.file() != l.AccessToken {
			t.Error("another value is published")
		}
		again := "refused: invalid_grant: log in again: iam-token-refresher login --client-id " + emulator.ClientID + " --client-secret-file \\S+/secret --token-file \\S+/login"
		s.keeps(func() { s.do(1, again, "refresh", "bot", "--config", "bot.yaml") })
		st := s.status()
		if st.State != refresher.Fresh {
			t.Errorf("the token is %s", st.State)
		}
		s.matches("the status", st.LastFailure, again)
		s.do(0, "log in again", "status", "--config", "bot.yaml")
		// Logging in again is all that it takes.
		next := s.keepsLogin(0)
		s.published2(2)
		if s.file() != next.AccessToken {
			t.Error("the new login is not published")
		}
		s.ends()
	})
}

// published2 waits until file and socket have a version.
func (s *scene) published2(n int) {
	s.Helper()
	s.loggedTimes(fmt.Sprintf(`"msg":"sink written.*file:.*"version":%d\b`, n), 1)
}

func TestARevokedLoginIsRefreshedOnce(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		first := s.keepsLogin(0)
		s.runLogin()
		s.ready()
		s.cloud.Revoke(first.AccessToken)
		s.reports()
		s.published2(2)
		second := s.kept()
		if s.file() != second.AccessToken || second.AccessToken == first.AccessToken || s.exchanges() != 1 {
			t.Fatalf("it was not refreshed: %d exchanges", s.exchanges())
		}
		s.cloud.Revoke(second.AccessToken)
		s.reports()
		s.logged(`"msg":"refresh failed".*although it had been refreshed for that reason.*log in again: iam-token-refresher login`)
		if n := s.exchanges(); n != 1 {
			t.Errorf("there were %d exchanges", n)
		}
		s.ends()
	})
}

// reports tells the daemon twice that the value is refused.
func (s *scene) reports() {
	s.Helper()
	v := s.read()
	s.ask(s.socket, http.MethodPost, "http://localhost/v1/tokens/bot/report", "If-Match", fmt.Sprintf(`"%s-%d"`, v.Lineage, v.Version))
}

func TestUnfitLoginsAreMistakesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		for name, c := range map[string]struct {
			spoil func()
			words string
		}{
			"gone":      {func() { s.try(os.Remove(s.path("login"))) }, "login file .*/login does not exist: log in: iam-token-refresher login --client-id"},
			"truncated": {func() { s.try(os.Truncate(s.path("login"), 200)) }, "is cut short or damaged: log in again"},
			"foreign":   {func() { s.write("login", `{"access_token": "x"}`) }, "holds something else than a login"},
			"readable":  {func() { s.try(os.Chmod(s.path("login"), 0o644)) }, `can be read or written by others \(mode 0644\): chmod 600 it`},
			"no secret": {func() { s.try(os.Remove(s.path("secret"))) }, "client secret file .*/secret does not exist"},
		} {
			s.keepsLogin(0)
			c.spoil()
			s.configure("bot", plot{source: oauthSource, probe: orgProbe}, true)
			t.Log(name)
			s.do(78, `bot\.yaml:3:\d+: .*`+c.words, "check", "--config", "bot.yaml")
		}
		if os.Geteuid() == 0 {
			s.keepsLogin(0)
			for name, mode := range map[string]os.FileMode{
				"": 0o755, "cloud": 0o755, "cloud/ca.pem": 0o644, "secret": 0o644, "bot.yaml": 0o644,
				"login": 0o604, // so that it can be opened at all
			} {
				s.try(os.Chmod(s.path(name), mode))
			}
			cmd := programIn(t, s.dir, []string{"check", "--config", "bot.yaml"})
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
			out, _ := cmd.CombinedOutput()
			s.matches("somebody else's check says", string(out), `belongs to uid 0, and we run as uid 54321: chown it to 54321`)
		}
		s.keepsLogin(0)
		for source, words := range map[string]string{
			strings.Replace(oauthSource, "client_id: ", "client_id: un known ", 1):             "is not an application's id",
			oauthSource + ", impersonate: aje00000000000target":                                `an OAuth token cannot act for a service account`,
			"oauth_token: {file: $S/login, token_file: $S/login}":                              "is given beside a stored login",
			"oauth_token: {token_file: $S/login}":                                              "client_id.* is missing",
			"oauth: {client_id: another, client_secret_file: $S/secret, token_file: $S/login}": "is of application " + emulator.ClientID,
		} {
			s.configure("bot", plot{source: source, probe: orgProbe}, true)
			s.do(78, words, "check", "--config", "bot.yaml")
		}
	})
}

func TestOAuthValuesAreServedAsWhatTheyAre(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.keepsLogin(0)
		s.configure("bot", plot{source: oauthSource, probe: orgProbe}, false)
		text, err := os.ReadFile(s.path("bot.yaml"))
		s.try(err)
		s.write("bot.yaml", strings.Replace(string(text), "    sinks:\n", "    sinks:\n      - file: {path: "+s.path("header")+", format: header}\n", 1))
		s.daemon = s.background("run", "run", "--config", "bot.yaml")
		s.ready()
		if v := s.read(); v.Type != "oauth" || v.Value != s.file() {
			t.Errorf("the socket says that it is of type %q", v.Type)
		}
		s.do(0, "^Authorization: OAuth y0_", "get", "bot", "--header", "--config", "bot.yaml")
		s.do(0, `oauth login in .*/login at https://127\S+ +fresh +accepted`, "status", "--config", "bot.yaml")
		const metadata = "/computeMetadata/v1/instance/service-accounts/default/token"
		if code, _ := s.get(s.socket, "http://localhost"+metadata, "Metadata-Flavor", "Google"); code != 404 {
			t.Errorf("the socket's metadata route answers %d", code)
		}
		if code, _ := s.get(http.DefaultClient, "http://"+s.metadata+metadata, "Metadata-Flavor", "Google"); code != 404 {
			t.Errorf("the metadata listener answers %d", code)
		}
		s.logged(`"level":"WARN","msg":"asked for an OAuth token on a metadata route`)
		s.logged(`"level":"WARN","msg":"metadata: the metadata API is for IAM tokens`)
		if curl, err := exec.LookPath("curl"); err == nil {
			out, err := exec.Command(curl, "-sS", "--cacert", s.path("cloud/ca.pem"), "-H", "@"+s.path("header"), s.cloud.Endpoints().Tracker+"/v3/myself").CombinedOutput()
			if err != nil || !strings.Contains(string(out), `"login":"person"`) {
				t.Errorf("curl -H @header: %v: %s", err, out)
			}
		}
		s.ends()
	})
}

func TestAStoredLoginCanBeExchanged(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		before := s.keepsLogin(old)
		exchanged := strings.Replace(oauthSource, "oauth:", "oauth_token:", 1)
		s.run(plot{source: exchanged})
		s.ready()
		if v := s.read(); v.Type != "iam" || !strings.HasPrefix(v.Value, "t1.") {
			t.Errorf("it is of type %q", v.Type)
		}
		s.logged(`"level":"WARN","msg":"source: Yandex Cloud will stop exchanging`)
		first := s.kept()
		if first.AccessToken == before.AccessToken {
			t.Error("the login was not refreshed on the way")
		}
		s.cloud.Revoke(first.AccessToken)
		s.renews()
		if s.kept().AccessToken == first.AccessToken {
			t.Error("what IAM rejected was not refreshed")
		}
		s.ends()
	})
}

func TestCheckExplainsOrganizations(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		check := func(code int, p plot, words string, args ...string) {
			t.Helper()
			s.configure("bot", p, true)
			s.do(code, words, append([]string{"check", "--config", "bot.yaml"}, args...)...)
		}
		before := s.keepsLogin(old)
		oauth := func(probe string) plot { return plot{source: oauthSource, probe: probe} }
		check(0, oauth(orgProbe), "ok   mint: .*ok   probe: accepted: .*account is person")
		if s.kept().RefreshToken != before.RefreshToken || s.exchanges() != 0 {
			t.Error("check has refreshed the login")
		}
		// The line to change, and what to.
		check(1, oauth(`tracker: {cloud_org_id: "`+emulator.OrgID+`"}`),
			`warn probe: cloud_org_id is a number.*FAIL probe: rejected: access: .*bot\.yaml:5:\d+: .*with the header X-Org-ID it is accepted: write org_id: "`+emulator.OrgID+`" in place of cloud_org_id.*5 \|     probe:`)
		check(1, oauth("tracker: {org_id: "+emulator.CloudOrgID+"}"), `with the header X-Cloud-Org-ID it is accepted: write cloud_org_id: "`+emulator.CloudOrgID)
		check(1, plot{probe: orgProbe}, `warn probe: org_id with an IAM token: `)
		check(1, plot{probe: "tracker: {org_id: " + emulator.CloudOrgID + "}"}, `with the header X-Cloud-Org-ID it is accepted`)
		check(0, oauth(orgProbe), `ok   X-Cloud-Org-ID: .*write probe: \{tracker: \{cloud_org_id: "`+emulator.CloudOrgID+`"\}\}`, "--discover-org", emulator.CloudOrgID)
		check(0, oauth(orgProbe), `ok   X-Org-ID: .*write probe: \{tracker: \{org_id: "`+emulator.OrgID+`"\}\}`, "--discover-org", emulator.OrgID)
		check(1, plot{}, `FAIL organization `+emulator.OrgID+`: .*IAM tokens never work there: use the source oauth`, "--discover-org", emulator.OrgID)
		check(78, plot{}, "is not an organization id", "--discover-org", "a b")
		check(78, plot{}, "asks Tracker, and --offline nobody", "--discover-org", "1", "--offline")
	})
}
