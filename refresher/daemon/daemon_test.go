package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/emulator"
)

// rig is a daemon at work on an emulator.
type rig struct {
	*Daemon
	t     *testing.T
	cloud *emulator.Emulator
	dir   string
	log   *os.File    // what it logs to
	lines chan string // of the log, as JSON
	stop  func() error
	wait  func() error // for it to end by itself
}

// start runs the emulator's own configuration until the test ends.
func start(t *testing.T) *rig {
	t.Helper()
	g := begin(t, emulator.Options{})
	g.logged("ready")
	return g
}

// begin does not wait until it is ready.
func begin(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	g := build(t, o)
	g.run()
	return g
}

// build makes a daemon that does not run yet.
func build(t *testing.T, o emulator.Options) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "itr") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o.Dir = dir
	cloud, err := emulator.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, cloud: cloud, dir: dir, log: w, lines: make(chan string, 10_000)}
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			g.lines <- s.Text()
		}
		close(g.lines)
	}()
	path := filepath.Join(dir, "config.yaml")
	g.edit("state_dir", "log: {level: debug}\nstate_dir")
	// Schedules begin at a random phase: none may be due while a test runs.
	g.edit("@every 1h", "@every 8000h")
	g.edit("@every 15m", "@every 8000h")
	g.Daemon, err = New(t.Context(), Options{
		Load: func(try func(*config.Config) error) (*config.Config, error) {
			return config.Load(path, Kinds(), config.LoadOptions{Try: try})
		},
		ConfigPath: path, Stderr: w, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *rig) run() {
	ctx, cancel := context.WithCancel(g.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- g.Run(ctx)
		_ = g.log.Close()
	}()
	stopped := false
	g.wait = func() error {
		if stopped {
			return nil
		}
		stopped = true
		return <-ended
	}
	g.stop = func() error {
		cancel()
		return g.wait()
	}
	g.t.Cleanup(func() {
		if err := g.stop(); err != nil {
			g.t.Error(err)
		}
	})
}

// logged waits for a log line that contains all of these.
func (g *rig) logged(words ...string) string {
	g.t.Helper()
	timeout := time.After(20 * time.Second)
	var seen []string
next:
	for {
		select {
		case line, ok := <-g.lines:
			if !ok {
				g.t.Fatalf("the log ended without %q:\n%s", words, strings.Join(seen, "\n"))
			}
			seen = append(seen, line)
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue next
				}
			}
			return line
		case <-timeout:
			g.t.Fatalf("nobody logged %q, but:\n%s", words, strings.Join(seen, "\n"))
		}
	}
}

// replace puts a file in place by rename, as careful writers do.
func (g *rig) replace(name string, content []byte) {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		g.t.Fatal(err)
	}
}

// edit changes the configuration.
func (g *rig) edit(old, replacement string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, "config.yaml"))
	if err != nil || !strings.Contains(string(text), old) {
		g.t.Fatalf("%v: no %q in %s", err, old, text)
	}
	g.replace("config.yaml", []byte(strings.Replace(string(text), old, replacement, 1)))
}

func (g *rig) content(name string) string {
	g.t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

func (g *rig) refreshed() refresher.RefreshOutcome {
	g.t.Helper()
	o, err := g.refresher.Refresh(g.t.Context(), "bot")
	if err != nil {
		g.t.Fatal(err)
	}
	return o
}

func (g *rig) keyID() string {
	g.t.Helper()
	var key struct{ ID string }
	if err := json.Unmarshal([]byte(g.content("key.json")), &key); err != nil {
		g.t.Fatal(err)
	}
	return key.ID
}

// followsANewKey gives the account another key, and takes the old one away.
func (g *rig) followsANewKey() {
	g.t.Helper()
	old := g.keyID()
	key, err := g.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{OwnRSA: true})
	if err != nil {
		g.t.Fatal(err)
	}
	g.replace("key.json", key.File)
	g.logged("key changed")
	if !g.cloud.DeleteKey(old) {
		g.t.Fatal("the old key is not there")
	}
	if o := g.refreshed(); o.Result != refresher.ResultPublished {
		g.t.Errorf("with the new key: %s: %s", o.Result, o.Reason)
	}
}

func TestARotatedKeyIsFollowed(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.followsANewKey()
}

// What is read before it is watched may change in between.
func TestWhatChangesBeforeItIsWatchedIsFollowed(t *testing.T) {
	t.Parallel()
	t.Run("key", func(t *testing.T) {
		t.Parallel()
		g := build(t, emulator.Options{})
		old := g.keyID()
		key, err := g.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{OwnRSA: true})
		if err != nil {
			t.Fatal(err)
		}
		g.replace("key.json", key.File)
		g.run()
		g.logged("key changed")
		if !g.cloud.DeleteKey(old) {
			t.Fatal("the old key is not there")
		}
		if o := g.refreshed(); o.Result != refresher.ResultPublished {
			t.Errorf("with the new key: %s: %s", o.Result, o.Reason)
		}
	})
	t.Run("configuration", func(t *testing.T) {
		t.Parallel()
		g := build(t, emulator.Options{})
		g.edit("level: debug", "level: info")
		g.run()
		g.logged("configuration changed")
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		g := start(t)
		g.refreshed()
		if err := g.stop(); err != nil {
			t.Error(err)
		}
		for line := range g.lines {
			if strings.Contains(line, "changed") {
				t.Error(line)
			}
		}
	})
}

// Such tokens share their mints.
func TestTokensWithTheSameOptionsHaveOneSource(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	other, err := g.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{OwnRSA: true})
	if err != nil {
		t.Fatal(err)
	}
	g.replace("other.json", other.File)
	for _, c := range []struct {
		a, b string
		one  bool
	}{
		{"service_account_key: {file: " + g.dir + "/key.json}", "service_account_key: {file: " + g.dir + "/key.json}", true},
		{"service_account_key: {file: " + g.dir + "/key.json}", "service_account_key: {file: " + g.dir + "/other.json}", false},
		{"metadata: {}", "metadata: {}", true},
		{"command: {argv: [/bin/true]}", "command: {argv: [/bin/true]}", true},
		{"command: {argv: [/bin/true]}", "command: {argv: [/bin/false]}", false},
	} {
		g.replace("config.yaml", fmt.Appendf(nil, "tokens:\n- {name: a, source: {%s}, probe: none, sinks: [{file: {path: %s/a}}]}\n- {name: b, source: {%s}, probe: none, sinks: [{file: {path: %s/b}}]}\n",
			c.a, g.dir, c.b, g.dir))
		p, err := g.load(nil)
		if err != nil {
			t.Fatal(err)
		}
		a, b := p.specs[0], p.specs[1]
		now := time.Now()
		if one := a.Source == b.Source; one != c.one || one && !a.Policy.Refresh(now).Equal(b.Policy.Refresh(now)) {
			t.Errorf("%s and %s: one source: %t", c.a, c.b, one)
		}
		p.discard()
	}
}

func TestTheLogSaysWhatItIsThatDoesNotChange(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	headers := filepath.Join(g.dir, "headers")
	g.replace("headers", []byte("Authorization: Bearer {{.Value}}\nX-Cloud-Org-ID: "+emulator.CloudOrgID+"\n"))
	g.run()
	g.logged("ready")
	g.edit("tracker: {cloud_org_id: "+emulator.CloudOrgID+"}", "http: {url: \""+g.cloud.Endpoints().Tracker+"/v3/myself\", headers_file: "+headers+"}")
	g.logged("configuration changed")
	for _, c := range []struct{ name, content, says string }{
		{"ca.pem", "no certificate", "new ca_file refused, the old one stays in force"},
		{"headers", "nonsense", "new headers_file and ca_file refused, the old one stays in force"},
	} {
		g.replace(c.name, []byte(c.content))
		if line := g.logged(c.says); strings.Contains(line, "key") {
			t.Error(line)
		}
	}
}

func TestABrokenKeyIsRefusedAndTheOldOneStays(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.edit("  - name: bot", "  - {name: other, source: {service_account_key: {file: "+g.dir+"/key.json}}, probe: none, sinks: [{file: {path: "+g.dir+"/other.token}}]}\n  - name: bot")
	g.logged("configuration changed")
	before := g.content("bot.token")
	g.replace("key.json", []byte(`{"id": "x"`))
	line := g.logged("new key refused, the old one stays in force")
	if want := `token \"other\", \"bot\": key file ` + g.dir + `/key.json is not valid JSON`; !strings.Contains(line, want) || strings.Count(line, "not valid") != 1 {
		t.Errorf("the log does not say whose it is and why: %s", line)
	}
	stranger, err := g.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{Mismatched: true})
	if err != nil {
		t.Fatal(err)
	}
	g.replace("key.json", stranger.File)
	g.logged("new key refused, the old one stays in force")
	if g.content("bot.token") != before {
		t.Error("a broken key changed what is published")
	}
	if o := g.refreshed(); o.Result != refresher.ResultPublished {
		t.Errorf("with the old key: %s: %s", o.Result, o.Reason)
	}
}

func TestAChangedConfigurationIsFollowed(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.edit(`      - env_file`, `      - file: {path: "`+g.dir+`/more.token"}
      - env_file`)
	g.logged("configuration changed")
	if g.content("more.token") != g.content("bot.token") {
		t.Error("the new sink does not hold the value")
	}
	if s, _ := g.refresher.Snapshot("bot"); s.Version.N != 1 {
		t.Errorf("a new sink made version %d", s.Version.N)
	}
}

func TestASocketIsHandedOver(t *testing.T) {
	t.Parallel()
	g := start(t)
	path := filepath.Join(g.dir, "itr.sock")
	kept, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	g.edit(`itr.sock"}`, `itr.sock", mode: "0660"}`)
	g.logged("configuration changed")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if _, err := kept.Write([]byte("GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(kept).ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("a connection from before the change got %q, %v", line, err)
	}
	g.edit(`      - socket: {path: "`+path+`", mode: "0660"}`+"\n", "")
	g.logged("configuration changed")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a socket that is no longer configured is still there: %v", err)
	}
}

func TestReadsAreCountedForEachTokenOnASocketAndAcrossAChange(t *testing.T) {
	t.Parallel()
	g := start(t)
	socket := filepath.Join(g.dir, "itr.sock")
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	read := func(token string) {
		t.Helper()
		r, err := c.Get("http://x/v1/tokens/" + token)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", token, r.Status)
		}
	}
	read("bot")
	g.edit("  - name: bot", "  - {name: other, source: {service_account_key: {file: "+g.dir+"/key.json}}, probe: none, sinks: [{socket: {path: "+socket+"}}]}\n  - name: bot")
	g.logged("configuration changed")
	read("bot")
	read("other")
	for token, want := range map[string]uint64{"bot": 2, "other": 1} {
		if n := g.reads(token, "socket:"+socket)["ok"]; n != want {
			t.Errorf("%d reads of %s, want %d", n, token, want)
		}
	}
	if all := g.reads("bot", "file:"+g.dir+"/bot.token"); all != nil {
		t.Errorf("reads of a file: %v", all)
	}
}

func TestARefusedConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for name, edit := range map[string][2]string{
		"a listener that cannot be bound": {`      - env_file`, `      - metadata: {listen: "` + taken.Addr().String() + `"}
      - env_file`},
		"a sink that cannot be written": {`/bot.env"`, `/none/bot.env"`},
		"a probe that rejects":          {`bpfem0lat0rcl0ud0rg1`, `bpfem0lat0rcl0ud0rg2`},
		"a state elsewhere":             {`/state"`, `/state2"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			before := g.plan.Load()
			g.edit(edit[0], edit[1])
			g.logged("new configuration refused, the old one stays in force")
			if g.plan.Load() != before {
				t.Error("something of it is in force")
			}
			if o := g.refreshed(); o.Result != refresher.ResultPublished || !o.Status.Sinks[1].Current {
				t.Errorf("the old configuration does not work: %+v", o)
			}
		})
	}
}

func TestAPlanThatIsDiscardedLetsGoOfItsOwnListenersAlone(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	g.opt.ConfigPath = "" // nobody else notices the change
	g.run()
	g.logged("ready")
	old := g.plan.Load()
	g.edit("      - env_file", "      - socket: {path: "+g.dir+"/another.sock}\n      - env_file")
	next, err := g.load(old)
	if err != nil {
		t.Fatal(err)
	}
	next.discard()
	for key, l := range next.listeners {
		if _, kept := old.listeners[key]; kept {
			continue
		}
		if err := l.server.Listen(); err == nil || !strings.Contains(err.Error(), "it was closed") {
			t.Errorf("%s: %v", key, err)
		}
	}
	c, err := net.Dial("unix", filepath.Join(g.dir, "itr.sock"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestAllThatNeedsARestartIsNamed(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	g.opt.ConfigPath = "" // nobody else notices the change
	g.run()
	g.logged("ready")
	g.edit(`/state"`, `/state2"`)
	g.edit("level: debug", "level: debug, format: text")
	g.edit("state_dir", "limits: {mints: 3}\nexec: {command: [/bin/true]}\nstate_dir")
	const want = "state_dir and limits and log.format and exec (or the organization of a token that it names) cannot change while the daemon runs: restart it"
	if _, err := g.Reload(t.Context()); err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestOnlyWhatMayPassIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		old, changed string
		again        what
	}{
		"a sink that cannot be written": {`/bot.env"`, `/none/bot.env"`, configuration},
		"a state elsewhere":             {`/state"`, `/state2"`, 0},
		"limits":                        {`state_dir`, `limits: {mints: 3}` + "\nstate_dir", 0},
		"the format of the log":         {`level: debug`, `level: debug, format: text`, 0},
		"a program":                     {`state_dir`, `exec: {command: [/bin/true]}` + "\nstate_dir", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			g.edit(c.old, c.changed)
			g.logged("new configuration refused, the old one stays in force")
			if again, _ := g.tryChanges(t.Context(), configuration, false); again != c.again {
				t.Errorf("%q is tried again, want %q: %s", again, c.again, g.logged("not changed"))
			}
			if again, _ := g.tryChanges(t.Context(), configuration|keys, false); again != c.again {
				t.Errorf("with a key %q is tried again, want %q", again, c.again)
			}
		})
	}
}

func TestWhatIsRefusedAgainForTheSameReasonIsSaidOnce(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	g.opt.ConfigPath = "" // nobody else notices the change
	g.run()
	g.logged("ready")
	g.edit("level: debug", "level: debgu")
	for _, c := range []struct {
		mistake  string
		byItself bool
		level    string
		failures uint64
	}{
		{"debgu", false, "ERROR", 1},
		{"debgu", true, "DEBUG", 1},
		{"debgu", false, "ERROR", 2},
		{"degbu", true, "ERROR", 3},
		{"degbu", true, "DEBUG", 3},
	} {
		g.edit("level: debgu", "level: "+c.mistake)
		g.tryChanges(t.Context(), configuration, c.byItself)
		g.edit("level: "+c.mistake, "level: debgu")
		line := g.logged("new configuration refused, the old one stays in force")
		if failures := g.reloads[0].Load(); !strings.Contains(line, c.level) || failures != c.failures {
			t.Errorf("%s, by itself: %t: %d failures, %s", c.mistake, c.byItself, failures, line)
		}
	}
}

func TestAChangeIsNotTriedAgainBeforeTheAPIWantsIt(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]emulator.Fault{
		"Tracker": {Service: emulator.ServiceTracker, Kind: emulator.KindStatus, Status: 503, RetryAfter: 20 * time.Minute},
		"IAM":     {Service: emulator.ServiceIAM, Kind: emulator.KindError, Code: "UNAVAILABLE", RetryAfter: 20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			if err := g.cloud.Inject(fault); err != nil {
				t.Fatal(err)
			}
			g.edit(`bpfem0lat0rcl0ud0rg1`, `bpfem0lat0rcl0ud0rg2`)
			g.logged("new configuration refused, the old one stays in force")
			key, err := g.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{OwnRSA: true})
			if err != nil {
				t.Fatal(err)
			}
			g.replace("key.json", key.File)
			g.logged("new key refused, the old one stays in force")
			for _, changed := range []what{configuration, keys} {
				if again, asked := g.tryChanges(t.Context(), changed, true); again != changed || asked < 20*time.Minute {
					t.Errorf("%q is tried again after %s", again, asked)
				}
			}
		})
	}
}

func TestAnHourOfRetriesIsWithinTheBudgetOfAToken(t *testing.T) {
	t.Parallel()
	const probes, takes = 3, 20 * time.Second // of a try that cannot tell
	var next retries
	tries, at := 1, takes
	for at += next.wait(0); at < time.Hour; at += takes + next.wait(0) {
		tries++
	}
	if tries > 13 || tries*probes > 24 {
		t.Errorf("%d tries in the first hour", tries)
	}
	if wait := next.wait(30 * time.Minute); wait != 30*time.Minute {
		t.Errorf("the next try is after %s", wait)
	}
	if wait := next.wait(0); wait != retryMost {
		t.Errorf("the one after it is after %s", wait)
	}
}

func TestAKeyIsFollowedWhileTheConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.edit("level: debug", "level: debgu")
	g.logged("new configuration refused, the old one stays in force")
	g.followsANewKey()
	g.edit("level: debgu", "level: info")
	g.logged("configuration changed")
}

func TestAFileThatSomebodyRemovesIsPutBack(t *testing.T) {
	t.Parallel()
	g := start(t)
	before, path := g.content("bot.token"), filepath.Join(g.dir, "bot.token")
	for _, c := range []struct {
		name    string
		disturb func() error
	}{
		// First, while the watcher may still wait for the file's first writing to
		// be over: it never sees that there was one.
		{"removed", func() error { return os.Remove(path) }},
		{"changed", func() error { return os.WriteFile(path, []byte("rubbish"), 0o600) }},
		{"opened", func() error { return os.Chmod(path, 0o644) }},
	} {
		if err := c.disturb(); err != nil {
			t.Fatal(err)
		}
		g.logged("putting the value back", "bot.token")
		g.logged("sink written", "bot.token")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || g.content("bot.token") != before {
			t.Errorf("%s: it is not what it was: %v, %v", c.name, info, err)
		}
	}
}

func TestAReloadGoesOnWhenWhoAskedForItHasGone(t *testing.T) {
	t.Parallel()
	g := build(t, emulator.Options{})
	g.opt.ConfigPath = "" // nobody else notices the change
	g.run()
	g.logged("ready")
	if err := g.cloud.Inject(emulator.Fault{Service: emulator.ServiceIAM, Kind: emulator.KindSlow, Latency: 500 * time.Millisecond, Count: 1}); err != nil {
		t.Fatal(err)
	}
	g.edit("  - name: bot", "  - {name: other, source: {service_account_key: {file: "+g.dir+"/key.json}}, probe: none, sinks: [{file: {path: "+g.dir+"/other.token}}]}\n  - name: bot")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := g.live().Reload(ctx)
		ended <- err
	}()
	g.logged("trying a change")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	g.logged("configuration changed")
}

func TestTheEndDoesNotWaitForAChange(t *testing.T) {
	t.Parallel()
	for name, programEnds := range map[string]bool{"when we are asked to end": false, "when the program ends": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := build(t, emulator.Options{})
			program := filepath.Join(g.dir, "program") // it ends once somebody has written there
			if err := syscall.Mkfifo(program, 0o600); err != nil {
				t.Fatal(err)
			}
			if programEnds {
				g.edit("state_dir", "exec: {command: [cat, "+program+"]}\nstate_dir")
			}
			var err error
			if g.Daemon, err = New(t.Context(), g.opt); err != nil {
				t.Fatal(err)
			}
			g.run()
			g.logged("ready")
			if err := g.cloud.Inject(emulator.Fault{Service: emulator.ServiceIAM, Kind: emulator.KindHang}); err != nil {
				t.Fatal(err)
			}
			key, err := g.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{OwnRSA: true})
			if err != nil {
				t.Fatal(err)
			}
			g.replace("key.json", key.File)
			g.logged("trying a change")
			begin := time.Now()
			if programEnds {
				f, err := os.OpenFile(program, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				_ = f.Close()
				if err := g.wait(); err == nil || !strings.Contains(err.Error(), "the program ended") {
					t.Error(err)
				}
			} else if err := g.stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > 20*time.Second { // a change has 30 s
				t.Errorf("the end took %s", took)
			}
		})
	}
}

// The watcher leaves a file that is missing alone for a moment: it may come back.
func TestAFileThatIsRemovedJustBeforeAChangeIsPutBackAfterIt(t *testing.T) {
	t.Parallel()
	g := start(t)
	before := g.content("bot.token")
	if err := os.Remove(filepath.Join(g.dir, "bot.token")); err != nil {
		t.Fatal(err)
	}
	g.edit(`      - env_file`, `      - file: {path: "`+g.dir+`/more.token"}
      - env_file`)
	g.logged("putting the value back", "bot.token")
	g.logged("sink written", "bot.token")
	if g.content("bot.token") != before {
		t.Error("it holds another value")
	}
}

func TestAWrongClockIsNamedAndThenReckonedWith(t *testing.T) {
	t.Parallel()
	g := begin(t, emulator.Options{ClockOffset: -7 * time.Minute})
	g.logged("refresh failed", "your clock is 7 min ahead of Yandex")
	g.logged("ready")
	if d := -g.refresher.Skew(); d < 6*time.Minute || d > 8*time.Minute {
		t.Errorf("skew %s", d)
	}
	if s, _ := g.refresher.Snapshot("bot"); s.Version.ExpiresAt.Sub(g.refresher.Now()) > 12*time.Hour {
		t.Errorf("expires in %s", s.Version.ExpiresAt.Sub(g.refresher.Now()))
	}
}

func TestAReloadThatCannotChangeASocketChangesNothing(t *testing.T) {
	t.Parallel()
	g := start(t)
	socket := filepath.Join(g.dir, "itr.sock")
	away := socket + ".away"
	if err := errors.Join(os.Rename(socket, away), os.WriteFile(socket, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	g.edit("itr.sock\"}", "itr.sock\", mode: \"0666\"}")
	g.edit("bot.token\"", "bot.token\", mode: \"0644\"")
	for range 2 {
		if said, err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), socket+": some") {
			t.Fatalf("%q, %v", said, err)
		}
	}
	if st, err := os.Stat(filepath.Join(g.dir, "bot.token")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", st, err)
	}
	if err := errors.Join(os.Remove(socket), os.Rename(away, socket)); err != nil {
		t.Fatal(err)
	}
	if said, err := g.Reload(t.Context()); err != nil {
		t.Fatalf("%q, %v", said, err)
	}
	for name, mode := range map[string]fs.FileMode{"itr.sock": 0o666, "bot.token": 0o644} {
		if st, err := os.Stat(filepath.Join(g.dir, name)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s is %v, %v", name, st, err)
		}
	}
}

func TestASocketThatWasRemovedIsPutBack(t *testing.T) {
	t.Parallel()
	g := start(t)
	socket := filepath.Join(g.dir, "itr.sock")
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	g.logged("it listens there again", socket)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()

	if err := errors.Join(os.WriteFile(socket+".new", nil, 0o600), os.Rename(socket+".new", socket)); err != nil {
		t.Fatal(err)
	}
	g.logged("sink not written", "something that is not a socket is there")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // the status follows the log
	defer cancel()
	if _, err := g.refresher.Await(ctx, "bot", func(st refresher.Status) bool {
		return slices.ContainsFunc(st.Sinks, func(s refresher.SinkStatus) bool { return s.ID == "socket:"+socket && !s.Current && s.Failure != "" })
	}); err != nil {
		t.Errorf("the status says nothing of it: %v", err)
	}
	if said, err := g.Reload(t.Context()); err == nil {
		t.Errorf("a reload says %q", said)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if said, err := g.Reload(t.Context()); err != nil || said != "nothing has changed" {
		t.Errorf("a reload says %q, %v", said, err)
	}
	if c, err = net.Dial("unix", socket); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	g.logged("sink written again", socket)
}
