package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
	"iam-token-refresher/refresher/status"
)

// scene is one token of a daemon on a cloud of its own. What its programs say
// is kept, and searched for secrets at the end.
type scene struct {
	*testing.T
	*stage
	daemon *process
	// calls has a line for each that hangs in the cloud.
	calls *lineLog
	hung  int // of these, before the step that is played
	// coarse: the source tells ends in whole seconds, so that of two values of
	// one second neither lives longer.
	coarse bool
	dir    string
	// health and metadata are the addresses of the daemon's listeners.
	health, metadata string
	socket           *http.Client
}

// play makes a scene, plays it, and ends it.
func play(t *testing.T, o emulator.Options, f func(*scene)) {
	s := &scene{T: t, stage: &stage{t: t, daemons: map[string]*process{}}, calls: newLineLog(), dir: shortDir(t)}
	s.health, s.metadata = loopback(t), loopback(t)
	s.socket = &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.path("s"))
		},
	}}
	var err error
	if o.RSA, err = sharedRSA(); err != nil {
		t.Fatal(err)
	}
	o.Dir = s.path("cloud")
	o.Log = slog.New(slog.NewTextHandler(s.calls, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if s.cloud, err = emulator.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer func() {
		s.close()
		for _, leak := range s.leaks() {
			t.Errorf("a secret got out: %s", leak)
		}
		if t.Failed() {
			t.Log(regexp.MustCompile("(?m)^(# |iam_token_).*\\n").ReplaceAllString(s.said(), ""))
		}
	}()
	f(s)
}

// together runs the cases beside each other, more than there are processors:
// mostly they wait.
func together[C any](t *testing.T, cases map[string]C, f func(*testing.T, C)) {
	room := make(chan struct{}, 5)
	var all sync.WaitGroup
	for name, c := range cases {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			t.Run(name, func(t *testing.T) { f(t, c) })
		})
	}
	all.Wait()
}

var loopbacks atomic.Uint32

// loopback finds a free port on an address that nobody else in this process
// has: on 127.0.0.1 another listener could take it before the daemon does.
func loopback(t *testing.T) string {
	t.Helper()
	n := loopbacks.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+os.Getpid()%200, n>>8, n&255))
	if err != nil { // systems that have the one address only
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

func (s *scene) write(name, text string) {
	s.Helper()
	// By rename: a reader must not find half a file, nor the daemon two changes.
	if err := errors.Join(os.WriteFile(s.path(name+"~"), []byte(text), 0o600), os.Rename(s.path(name+"~"), s.path(name))); err != nil {
		s.Fatal(err)
	}
}

// plot is what a scene's token is like: YAML within the braces of each.
type plot struct{ source, probe, refresh string }

// org is the probe that fits the cloud.
const org = "tracker: {cloud_org_id: " + emulator.CloudOrgID + "}"

// configure writes NAME.yaml, with state and listeners or for once.
func (s *scene) configure(name string, p plot, once bool) {
	s.Helper()
	text, err := os.ReadFile(s.path("cloud/config.yaml"))
	if err != nil {
		s.Fatal(err)
	}
	_, endpoints, _ := strings.Cut(string(text), "\nendpoints:")
	if p.source == "" {
		p.source = "service_account_key: {file: $D/key.json}"
	}
	if p.probe == "" {
		p.probe = org
	}
	// Schedules begin at a random phase: none may be due while a case runs.
	if !strings.Contains(p.probe, "schedule:") {
		p.probe += `, schedule: "@every 8000h"`
	}
	if p.refresh == "" {
		p.refresh = `schedule: "@every 8000h"`
	}
	config := `tokens:
  - name: bot
    source: {` + p.source + `}
    refresh: {` + p.refresh + `}
    probe: {` + p.probe + `}
    sinks:
      - file: {path: $S/` + name + `.token}
`
	if !once {
		config += `      - socket: {path: $S/s}
      - metadata: {listen: "` + s.metadata + `"}
state_dir: $S/state
status: {listen: "` + s.health + `"}
`
	}
	config += "log: {level: debug, format: json}\nendpoints:" + endpoints
	s.write(name+".yaml", strings.NewReplacer("$D", s.path("cloud"), "$S", s.dir).Replace(config))
}

// exec prepares the program.
func (s *scene) exec(args ...string) *exec.Cmd {
	s.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "GORACE=atexit_sleep_ms=0"}
	return cmd
}

// run starts the daemon.
func (s *scene) run(p plot) {
	s.Helper()
	s.configure("bot", p, false)
	s.coarse = !strings.Contains(p.source, "impersonate") &&
		(strings.HasPrefix(p.source, "metadata") || strings.HasPrefix(p.source, "workload_identity"))
	s.daemon = s.background("run", "run", "--config", "bot.yaml")
}

// background starts the program and goes on.
func (s *scene) background(name string, args ...string) *process {
	s.Helper()
	p, err := start(s.exec(args...))
	if err != nil {
		s.Fatal(err)
	}
	s.daemons[name] = p
	return p
}

// do runs the program and wants an exit code and words in what it says.
func (s *scene) do(code int, words string, args ...string) {
	s.Helper()
	got, out := s.outcome(args...)
	if got != code {
		s.Errorf("%s ended with %d, not %d: %s", strings.Join(args, " "), got, code, out)
	}
	s.matches(strings.Join(args, " ")+" says", out, words)
}

// outcome runs the program. Commands that only ask the daemon are carried out
// in this process, by all of main but its exit: there are hundreds of them.
func (s *scene) outcome(args ...string) (code int, out string) {
	s.Helper()
	if args[0] == "once" || args[0] == "check" {
		cmd := s.exec(args...)
		b, _ := cmd.CombinedOutput()
		code, out = cmd.ProcessState.ExitCode(), string(b)
	} else {
		f, err := os.CreateTemp(s.dir, "out")
		s.try(err)
		defer f.Close()
		here := slices.Clone(args)
		if i := slices.Index(here, "bot.yaml"); i >= 0 {
			here[i] = s.path("bot.yaml")
		}
		code = run(s.Context(), here, f, f)
		b, err := os.ReadFile(f.Name())
		s.try(err)
		out = string(b)
	}
	kept := out
	if args[0] == "get" && code == 0 {
		kept = "" // a value is what it is for
	}
	s.say("$ " + strings.Join(args, " ") + "\n" + kept)
	return code, out
}

func (s *scene) matches(what, text, pattern string) {
	s.Helper()
	if !regexp.MustCompile("(?s)" + pattern).MatchString(text) {
		s.Errorf("%s %q, nothing like %q", what, text, pattern)
	}
}

// logged waits for a line of the daemon's log and for what the loop does after it.
func (s *scene) logged(pattern string) { s.Helper(); s.loggedTimes(pattern, 1) }

func (s *scene) loggedTimes(pattern string, n int) {
	s.Helper()
	if err := s.daemon.log.await(pattern, n); err != nil {
		s.Fatal(err)
	}
	s.get(http.DefaultClient, "http://"+s.health+"/livez")
}

// published waits until every sink has a version.
func (s *scene) published(n uint64) {
	s.Helper()
	s.loggedTimes(fmt.Sprintf(`"msg":"sink written.*"version":%d\b`, n), 3)
}

// ready waits until the first value is everywhere.
func (s *scene) ready() { s.Helper(); s.logged(`"msg":"ready"`) }

// get asks one of the daemon's listeners.
func (s *scene) get(c *http.Client, url string, header ...string) (code int, body string) {
	s.Helper()
	return s.ask(c, http.MethodGet, url, header...)
}

func (s *scene) ask(c *http.Client, method, url string, header ...string) (code int, body string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, url, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// status is what the daemon says of the token.
func (s *scene) status() status.Token {
	s.Helper()
	_, body := s.get(s.socket, "http://localhost/v1/tokens")
	s.say(body)
	var doc status.Document
	if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc.Tokens) != 1 {
		s.Fatalf("the status is %q: %v", body, err)
	}
	return doc.Tokens[0]
}

// served is what the socket gives.
type served struct {
	Value     string `json:"value"`
	Version   uint64 `json:"version"`
	Lineage   string `json:"lineage"`
	Verdict   string `json:"verdict"`
	ExpiresIn *int64 `json:"expires_in"`
	Reason    string `json:"reason"`
	code      int
}

func (s *scene) read() served {
	s.Helper()
	code, body := s.get(s.socket, "http://localhost/v1/tokens/bot", "Accept", "application/json")
	v := served{code: code}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		s.Fatal(err)
	}
	if code != http.StatusOK {
		s.say(body)
	}
	return v
}

// file is what the file holds, and what tells that it was not written again.
func (s *scene) file() string {
	s.Helper()
	text, err := os.ReadFile(s.path("bot.token"))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

func (s *scene) written() time.Time {
	s.Helper()
	info, err := os.Stat(s.path("bot.token"))
	if err != nil {
		s.Fatal(err)
	}
	return info.ModTime()
}

// sees wants the token in this state everywhere that shows it. A value that is
// served is the file's.
func (s *scene) sees(state refresher.Health, verdict refresher.Verdict) status.Token {
	s.Helper()
	st := s.status()
	if st.State != state || st.Verdict != verdict {
		s.Errorf("the token is %s, %s and not %s, %s: %+v", st.State, st.Verdict, state, verdict, st)
	}
	code := http.StatusOK
	if !usable(status.Token{State: state}) {
		code = http.StatusServiceUnavailable
	}
	v := s.read()
	if v.code != code {
		s.Errorf("the socket answers %d and not %d", v.code, code)
	}
	if got, _ := s.get(http.DefaultClient, "http://"+s.metadata+"/computeMetadata/v1/instance/service-accounts/default/token", "Metadata-Flavor", "Google"); got != code {
		s.Errorf("the metadata listener answers %d and not %d", got, code)
	}
	if got, body := s.get(http.DefaultClient, "http://"+s.health+"/readyz"); got != code {
		s.Errorf("/readyz answers %d and not %d: %s", got, code, body)
	}
	if code == http.StatusOK && v.Value != s.file() {
		s.Error("the file holds another value than the socket serves")
	}
	if _, err := os.Stat(s.path("bot.token")); st.Version == 0 && !errors.Is(err, os.ErrNotExist) {
		s.Error("there is a file although nothing was published")
	}
	s.measures(`iam_token_state{state="` + string(state) + `",token="bot"} 1`)
	s.measures(fmt.Sprintf(`iam_token_version{token="bot"} %d`, st.Version))
	return st
}

// measures wants a line among the metrics.
func (s *scene) measures(pattern string) {
	s.Helper()
	_, body := s.get(http.DefaultClient, "http://"+s.health+"/metrics")
	s.say(body)
	if !strings.Contains(body, "\n"+pattern) {
		s.Errorf("the metrics have no %s", pattern)
	}
}

// keeps does something and wants the published value to stay as it is: the
// file is not even written.
func (s *scene) keeps(f func()) {
	s.Helper()
	before, text, at := s.read(), s.file(), s.written()
	f()
	after := s.read()
	if after.code != http.StatusOK || after.Value != before.Value || after.Version != before.Version {
		s.Errorf("the socket answers %d with version %d, not with version %d", after.code, after.Version, before.Version)
	}
	if s.file() != text || !s.written().Equal(at) {
		s.Error("the file was written")
	}
}

// renews wants a refresh to publish.
func (s *scene) renews() {
	s.Helper()
	before := s.read()
	for {
		s.nextSecond()
		code, out := s.outcome("refresh", "bot", "--config", "bot.yaml")
		if s.coarse && strings.Contains(out, "does not live longer") {
			continue // than what a retry published in this very second
		}
		if !strings.HasPrefix(out, "bot: a new version is published: ") {
			s.Fatalf("refresh ended with %d: %s", code, out)
		}
		break
	}
	s.settles()
	after := s.read()
	if after.code != http.StatusOK || after.Value == before.Value || before.code == http.StatusOK && after.Version <= before.Version {
		s.Errorf("the socket answers %d with version %d after %d", after.code, after.Version, before.Version)
	}
}

// nextSecond waits for it where that makes a value live longer.
func (s *scene) nextSecond() {
	if s.coarse {
		<-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	}
}

// settles waits until nothing is under way: a retry of the daemon's own may
// have begun beside a refresh.
func (s *scene) settles() {
	s.Helper()
	for {
		st := s.status()
		current := !st.Candidate && st.NextRefresh != nil
		for _, sink := range st.Sinks {
			current = current && sink.Current
		}
		if current {
			return
		}
		s.get(s.socket, "http://localhost/v1/tokens/bot", "Prefer", "wait=1", "If-None-Match", fmt.Sprintf(`"%s-%d"`, st.Lineage, st.Version))
	}
}

// ends stops the daemon, in no time.
func (s *scene) ends() {
	s.Helper()
	began := time.Now()
	if err := s.daemon.signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if code, err := s.daemon.wait(); err != nil || code != 0 {
		s.Errorf("the daemon ended with %d, %v", code, err)
	}
	if took := time.Since(began); took > time.Second {
		s.Errorf("the daemon took %s to end", took)
	}
}

// makings are working sources: what they are made of and how they are configured.
var makings = map[string]struct {
	source string
	make   func(*scene)
	// who mints: the account that may be refused to act for another.
	who string
}{
	"service_account_key": {"service_account_key: {file: $S/key.json}", copyOf("key.json"), emulator.BotAccount},
	"metadata":            {"metadata: {}", nil, emulator.BotAccount},
	"workload_identity":   {"workload_identity: {service_account_id: " + emulator.BotAccount + ", token_file: $S/oidc.jwt}", copyOf("oidc.jwt"), emulator.BotAccount},
	"oauth_token":         {"oauth_token: {file: $S/oauth.token}", copyOf("oauth.token"), emulator.Person},
	"command":             {"command: {argv: [/bin/sh, $S/mint.sh], timeout: 2s}", script(`cat $S/yc.json`), emulator.BotAccount},
	"token_file":          {"token_file: {path: $S/yc.json}", mintFile("yc.json", time.Hour), emulator.BotAccount},
}

// copyOf copies a file of the cloud, to be spoilt.
func copyOf(name string) func(*scene) {
	return func(s *scene) {
		text, err := os.ReadFile(s.path("cloud/" + name))
		if err != nil {
			s.Fatal(err)
		}
		s.write(name, string(text))
	}
}

// mintFile writes a value as yc does.
func mintFile(name string, lifetime time.Duration) func(*scene) {
	return func(s *scene) {
		value, expires, err := s.cloud.Mint(emulator.BotAccount, lifetime)
		if err != nil {
			s.Fatal(err)
		}
		s.write(name, fmt.Sprintf(`{"iam_token": %q, "expires_at": %q}`, value, expires.UTC().Format(time.RFC3339Nano)))
	}
}

// script makes a program that mints; it finds another value in yc.json each time.
func script(lines string) func(*scene) {
	return func(s *scene) {
		mintFile("yc.json", time.Hour)(s)
		s.write("mint.sh", strings.ReplaceAll(lines, "$S", s.dir)+"\n")
	}
}

func holding(name, text string) func(*scene) { return func(s *scene) { s.write(name, text) } }

func remove(name string) func(*scene) {
	return func(s *scene) {
		if err := os.Remove(s.path(name)); err != nil {
			s.Fatal(err)
		}
	}
}

// subject writes the workload's token.
func subject(claims emulator.SubjectClaims) func(*scene) {
	return func(s *scene) {
		token, err := s.cloud.SignSubject(claims)
		if err != nil {
			s.Fatal(err)
		}
		s.write("oidc.jwt", token)
	}
}

func (s *scene) try(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// wrongKey writes a key that IAM knows by another public half.
func wrongKey(s *scene) {
	key, err := s.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{Mismatched: true})
	s.try(err)
	s.write("key.json", string(key.File))
}

// deleteKey deletes the key in key.json.
func deleteKey(s *scene) {
	text, err := os.ReadFile(s.path("key.json"))
	s.try(err)
	if !s.cloud.DeleteKey(between(string(text), `"id": "`, `"`)) {
		s.Fatal("no key was deleted")
	}
}

func noMachineAccount(s *scene) { s.try(s.cloud.SetMetadata("", 0)) }

func deleteAccount(s *scene) { s.try(s.cloud.DeleteAccount(emulator.BotAccount)) }

// revokeLogin makes the person's OAuth token worthless.
func revokeLogin(s *scene) {
	text, err := os.ReadFile(s.path("oauth.token"))
	s.try(err)
	if !s.cloud.Revoke(strings.TrimSpace(string(text))) {
		s.Fatal("no login was revoked")
	}
}

// both does one thing after another.
func both(steps ...func(*scene)) func(*scene) {
	return func(s *scene) {
		for _, step := range steps {
			step(s)
		}
	}
}

func TestSourcePublishesAndARefusalLeavesWhatIsPublished(t *testing.T) {
	t.Parallel()
	printsToken := "echo progress >&2; cat $S/yc.json; cat $S/yc.json >&2; exit 7"
	for source, refusals := range map[string]map[string]struct {
		harm func(*scene)
		// says is what log, status and the refresh command say: what failed,
		// and what to do.
		says string
		mend func(*scene)
	}{
		"service_account_key": {
			"its key is deleted":     {harm: deleteKey, says: "create IAM token at 127.* with key .*: UNAUTHENTICATED: .*the key was deleted or belongs to another account.*: make a new one with yc iam key create --service-account-id " + emulator.BotAccount},
			"its account is deleted": {harm: deleteAccount, says: "UNAUTHENTICATED: .*or the account is gone: ", mend: func(s *scene) { s.try(s.cloud.RestoreAccount(emulator.BotAccount)) }},
		},
		"metadata": {
			"the machine has no service account": {harm: noMachineAccount, says: "get token from the metadata service at http://127.*: 404: no service account is attached to this virtual machine: attach one with yc compute instance update", mend: func(s *scene) { s.try(s.cloud.SetMetadata(emulator.BotAccount, 0)) }},
			"its account is deleted":             {harm: deleteAccount, says: "404: no service account is attached"},
		},
		"workload_identity": {
			"the subject token expired":              {harm: subject(emulator.SubjectClaims{Lifetime: -5 * time.Minute}), says: "exchange workload token .*/oidc.jwt .*the workload token expired 5 min ago: whoever writes .*/oidc.jwt .*has stopped renewing it", mend: copyOf("oidc.jwt")},
			"the subject token has another audience": {harm: subject(emulator.SubjectClaims{Audience: []string{"somebody-else"}}), says: "400: .*invalid_request.*check the federation and its federated credentials for " + emulator.BotAccount + ".*issuer, audience and subject", mend: copyOf("oidc.jwt")},
			"the subject token has another issuer":   {harm: subject(emulator.SubjectClaims{Issuer: "https://issuer.example"}), says: "400: .*issuer, audience and subject must be those of the token"},
			"the subject is linked to nobody":        {harm: subject(emulator.SubjectClaims{Subject: "system:serviceaccount:default:other"}), says: "400: .*issuer, audience and subject must be those of the token"},
			"its account is deleted":                 {harm: deleteAccount, says: "400: .*check the federation"},
			"the subject token is empty":             {harm: holding("oidc.jwt", ""), says: "workload token .*/oidc.jwt is empty"},
			"the subject token is gone":              {harm: remove("oidc.jwt"), says: "workload token .*/oidc.jwt does not exist: check the path", mend: copyOf("oidc.jwt")},
			"the subject token is rubbish":           {harm: holding("oidc.jwt", "<html>\n<body>"), says: "the workload token has 2 lines; a token is one: check who writes .*/oidc.jwt"},
		},
		"oauth_token": {
			"the login is revoked": {harm: revokeLogin, says: "create IAM token at 127.*UNAUTHENTICATED: .*(OAuth|log in|new one)"},
		},
		"command": {
			"it fails":              {harm: script("echo 'you are not logged in' >&2; exit 3"), says: "run /bin/sh: it failed with exit code 3: .*you are not logged in.*: run it by hand as the same user", mend: script("cat $S/yc.json")},
			"it fails with a token": {harm: script(printsToken), says: "it failed with exit code 7"},
			"it is killed":          {harm: script("kill -9 $$"), says: "it was ended by signal 9"},
			"it hangs":              {harm: script("sleep 60 & sleep 60"), says: "it did not end within 2s and was killed: run it by hand as the same user: it may wait for a login", mend: script("cat $S/yc.json")},
			"it prints nothing":     {harm: script("true"), says: `its output \(0 bytes\) is empty: it must print a token, or JSON with iam_token and expires_at, and nothing else`},
			"it prints rubbish":     {harm: script("echo one; echo two"), says: "its output .8 bytes. has 2 lines; a token is one: it must print a token"},
			"it prints other JSON":  {harm: script("echo '{\"error\": 1}'"), says: "is JSON without .*iam_token.*: it must print a token"},
			"it prints no JSON":     {harm: script("echo '{\"iam_token\": '"), says: "is not valid JSON .*: it must print a token"},
			"it prints too much":    {harm: script("cat /dev/zero"), says: "it printed more than 65536 bytes and was killed"},
			"its token has expired": {harm: both(script("cat $S/yc.json"), mintFile("yc.json", -time.Minute)), says: "the token it gave expired (59|6.) s ago"},
			"the program is gone":   {harm: remove("mint.sh"), says: "run /bin/sh: it failed with exit code (2|127): "},
		},
		"token_file": {
			"it is empty":           {harm: holding("yc.json", ""), says: "read token from .*/yc.json: token file .*/yc.json is empty", mend: mintFile("yc.json", 2*time.Hour)},
			"it is missing":         {harm: remove("yc.json"), says: "token file .*/yc.json does not exist: check the path", mend: mintFile("yc.json", 2*time.Hour)},
			"it is rubbish":         {harm: holding("yc.json", "<html>\n<body>\n"), says: "its content has 2 lines; a token is one: check who writes it"},
			"it is other JSON":      {harm: holding("yc.json", `{"token": 42}`), says: "its content is JSON without .*iam_token.*: check who writes it"},
			"its token has expired": {harm: mintFile("yc.json", -time.Minute), says: "the token in it expired (59|6.) s ago: whoever writes it has stopped renewing it"},
		},
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			m := makings[source]
			cases := map[string]func(*scene){}
			for name, r := range refusals {
				cases[name] = func(s *scene) {
					s.refused(plot{source: m.source}, m.make, r.harm, r.says, r.mend)
				}
			}
			cases["it may no longer act for another"] = func(s *scene) {
				s.try(s.cloud.AllowImpersonation(m.who, emulator.TargetAccount, true))
				s.refused(plot{source: m.source + ", impersonate: " + emulator.TargetAccount}, m.make, func(s *scene) {
					if s.cloud.Calls()["iam/CreateForServiceAccount"] == 0 {
						s.Error("nobody was impersonated")
					}
					s.try(s.cloud.AllowImpersonation(m.who, emulator.TargetAccount, false))
				}, "create IAM token for service account "+emulator.TargetAccount+".*PERMISSION_DENIED.*may not act for it: grant it iam.serviceAccounts.tokenCreator on "+emulator.TargetAccount,
					func(s *scene) { s.try(s.cloud.AllowImpersonation(m.who, emulator.TargetAccount, true)) })
			}
			together(t, cases, func(t *testing.T, f func(*scene)) { play(t, emulator.Options{}, f) })
		})
	}
}

// refused publishes a first value, harms the source, and wants words and
// nothing else to change.
func (s *scene) refused(p plot, prepare, harm func(*scene), says string, mend func(*scene)) {
	s.Helper()
	if prepare != nil {
		prepare(s)
	}
	s.run(p)
	s.ready()
	s.sees(refresher.Fresh, refresher.Accepted)
	s.keeps(func() {
		harm(s)
		s.do(1, `^iam-token-refresher: refresh token "bot": .*`+says, "refresh", "bot", "--config", "bot.yaml")
		s.logged(`"level":"WARN","msg":"refresh failed","token":"bot","error":".*` + says)
	})
	st := s.sees(refresher.Fresh, refresher.Accepted)
	s.matches("the status says", st.LastFailure, says)
	if st.Failures == 0 || st.NextRefresh == nil {
		s.Errorf("after a failure the status has %d and no plan: %+v", st.Failures, st)
	}
	s.measures(`iam_token_refreshes_total{result="failed",token="bot"}`)
	s.do(0, "", "get", "bot", "--config", "bot.yaml")
	if mend != nil {
		mend(s)
		if strings.HasPrefix(p.source, "token_file") && !strings.Contains(p.source, "impersonate") {
			s.published(2) // by itself: the file is watched
		} else {
			s.renews()
		}
		s.sees(refresher.Fresh, refresher.Accepted)
	}
	s.ends()
}

func TestSourceThatNeverWorkedIsExplained(t *testing.T) {
	t.Parallel()
	together(t, map[string]struct {
		source, says string
		prepare      func(*scene)
	}{
		"a key that IAM knows otherwise": {
			"service_account_key: {file: $S/key.json}", "UNAUTHENTICATED: .*the key was deleted or belongs to another account", wrongKey,
		},
		"a key that was deleted": {
			"service_account_key: {file: $S/key.json}", "UNAUTHENTICATED: .*make a new one with yc iam key create", both(copyOf("key.json"), deleteKey),
		},
		"a machine without a service account": {"metadata: {}", "404: no service account is attached to this virtual machine", noMachineAccount},
		"a federation for another account": {
			"workload_identity: {service_account_id: " + emulator.TargetAccount + ", token_file: $D/oidc.jwt}", "400: .*invalid_target.*check the federation .*" + emulator.TargetAccount, nil,
		},
		"a revoked login": {"oauth_token: {file: $S/oauth.token}", "UNAUTHENTICATED", both(copyOf("oauth.token"), revokeLogin)},
		"a program that is not there": {
			"command: {argv: [/nonexistent/yc]}", "run /nonexistent/yc: there is no such program: give its full path in argv, or install it", nil,
		},
		"a program that must not run": {
			"command: {argv: [$S/yc]}", "it must not be executed by this user: check its mode", holding("yc", "echo"),
		},
		"a file that is not there": {"token_file: {path: $S/none}", "token file .*/none does not exist: check the path", nil},
		"an account that may not be acted for": {
			"service_account_key: {file: $D/key.json}, impersonate: " + emulator.OutsiderAccount, "PERMISSION_DENIED.*grant it iam.serviceAccounts.tokenCreator", nil,
		},
		"an account that is not there": {
			"metadata: {}, impersonate: aje0000000000000none", "NOT_FOUND.*the account does not exist, or", nil,
		},
	}, func(t *testing.T, c struct {
		source, says string
		prepare      func(*scene)
	},
	) {
		play(t, emulator.Options{}, func(s *scene) {
			if c.prepare != nil {
				c.prepare(s)
			}
			s.run(plot{source: c.source})
			s.logged(`"msg":"refresh failed","token":"bot","error":".*` + c.says)
			st := s.sees(refresher.Pending, refresher.Unproven)
			s.matches("the status says", st.LastFailure, c.says)
			s.do(1, `^iam-token-refresher: get token "bot": there is no value yet: .*`+c.says, "get", "bot", "--config", "bot.yaml")
			s.do(1, `^iam-token-refresher: not ready: bot: no value yet: .*`+c.says, "healthcheck", "--config", "bot.yaml")
			s.do(1, `bot\n  ok   source: .*\n  FAIL mint: .*`+c.says+`.*\n  skip probe: there is no value to try\n`, "check", "--config", "bot.yaml")
			s.ends()
		})
	})
}

func TestKeyThatDoesNotWorkIsNotTakenIntoUse(t *testing.T) {
	t.Parallel()
	together(t, map[string]struct {
		kind, says string
		harm       func(*scene)
	}{
		"a key that IAM knows otherwise":       {"service_account_key", "UNAUTHENTICATED: .*the key was deleted or belongs to another account", wrongKey},
		"a key that is no JSON":                {"service_account_key", "key file .*/key.json is not valid JSON", holding("key.json", "{")},
		"an empty key file":                    {"service_account_key", "key file .*/key.json is empty", holding("key.json", "")},
		"a key file that is gone":              {"service_account_key", "key file .*/key.json does not exist", remove("key.json")},
		"a key without its private half":       {"service_account_key", "has no .*private_key", holding("key.json", `{"id":"a","service_account_id":"b"}`)},
		"an empty login":                       {"oauth_token", "OAuth token file .*/oauth.token is empty", holding("oauth.token", "")},
		"a login that the cloud does not know": {"oauth_token", "UNAUTHENTICATED", holding("oauth.token", "y0_"+strings.Repeat("x", 40))},
		"a login file that is gone":            {"oauth_token", "OAuth token file .*/oauth.token does not exist", remove("oauth.token")},
	}, func(t *testing.T, c struct {
		kind, says string
		harm       func(*scene)
	},
	) {
		play(t, emulator.Options{}, func(s *scene) {
			m := makings[c.kind]
			m.make(s)
			s.run(plot{source: m.source})
			s.ready()
			s.keeps(func() {
				c.harm(s)
				s.logged(`"level":"ERROR","msg":"key not changed, the old one stays in force","error":".*` + c.says)
			})
			s.sees(refresher.Fresh, refresher.Accepted)
			s.measures(`iam_token_config_reloads_total{result="failure"} 1`)
			s.renews() // with the old key
			m.make(s)  // which comes back
			s.renews()
			s.ends()
		})
	})
}

// The machine's own agent has used the token up: it is better than nothing,
// and not better than what there is.
func TestMetadataTokenWithThreeSecondsLeft(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{source: "metadata: {}"})
		s.ready()
		s.keeps(func() {
			s.try(s.cloud.SetMetadata(emulator.BotAccount, 3*time.Second))
			s.do(0, "^bot: nothing new, the published value stays: the new value does not live longer than the published one", "refresh", "bot", "--config", "bot.yaml")
			s.logged(`"msg":"new value not published","token":"bot","reason":"the new value does not live longer`)
		})
		s.sees(refresher.Fresh, refresher.Accepted)
		s.measures(`iam_token_refreshes_total{result="unchanged",token="bot"} 1`)
		s.ends()

		s.configure("once", plot{source: "metadata: {}"}, true)
		s.do(0, `"msg":"published".*"expires_in":"[0-3](\.[0-9]+)?s"`, "once", "--config", "once.yaml")
	})
}
