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
	coarse   bool
	dir      string
	binary   string // the program; the test binary itself if empty
	detached bool   // from the terminal that the tests may run on
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
			t.Log(regexp.MustCompile(`(?m)^(# |iam_token_).*\n`).ReplaceAllString(s.said(), ""))
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
type plot struct {
	source, probe, refresh string
	// sinks are lines in place of the usual ones.
	sinks    string
	onChange string // of the usual file
	more     string // whole lines, beside the tokens
}

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
	usual := p.sinks == ""
	if usual {
		p.sinks = `      - file: {path: $S/` + name + `.token}
`
		if p.onChange != "" {
			p.sinks += "        on_change: {" + p.onChange + "}\n"
		}
	}
	config := `tokens:
  - name: bot
    source: {` + p.source + `}
    refresh: {` + p.refresh + `}
    probe: {` + p.probe + `}
    sinks:
` + p.sinks
	if !once && usual {
		config += `      - socket: {path: $S/s}
      - metadata: {listen: "` + s.metadata + `"}
`
	}
	if !once {
		config += `state_dir: $S/state
status: {listen: "` + s.health + `"}
`
	}
	config += p.more + "log: {level: debug, format: json}\nendpoints:" + endpoints
	s.write(name+".yaml", strings.NewReplacer("$D", s.path("cloud"), "$S", s.dir).Replace(config))
}

// exec prepares the program.
func (s *scene) exec(args ...string) *exec.Cmd {
	s.Helper()
	path := s.binary
	if path == "" {
		var err error
		path, err = exec.LookPath(program)
		s.try(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: s.detached}
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
		code = run(s.Context(), nil, here, f, f)
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

// text is what a file of the scene holds.
func (s *scene) text(name string) string {
	s.Helper()
	b, err := os.ReadFile(s.path(name))
	s.try(err)
	return string(b)
}

// served is what the socket gives.
type served struct {
	Value     string `json:"value"`
	Type      string `json:"type"`
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
	metadata := code
	if st.Type == refresher.TypeOAuth {
		metadata = http.StatusNotFound // it is for IAM tokens
	}
	if got, _ := s.get(http.DefaultClient, "http://"+s.metadata+"/computeMetadata/v1/instance/service-accounts/default/token", "Metadata-Flavor", "Google"); got != metadata {
		s.Errorf("the metadata listener answers %d and not %d", got, metadata)
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
	for again := false; ; again = true {
		s.nextSecond()
		code, out := s.outcome("refresh", "bot", "--config", "bot.yaml")
		if code == exitFailed && !again {
			continue // it joined a retry that had begun in the trouble from before
		}
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

// ends stops the daemon.
func (s *scene) ends() {
	s.Helper()
	if err := s.daemon.signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if code, err := s.daemon.wait(); err != nil || code != 0 {
		s.Errorf("the daemon ended with %d, %v", code, err)
	}
}
