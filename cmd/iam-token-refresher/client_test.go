package main

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// socketOf serves handler on a new Unix socket.
func socketOf(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	serve(t, "unix", path, handler)
	return path
}

// listenerOf serves handler on a loopback port.
func listenerOf(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	return serve(t, "tcp", "127.0.0.1:0", handler)
}

func serve(t *testing.T, network, address string, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return l.Addr().String()
}

// shortDir is a directory that a socket's path has room for.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "itr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestAnswersOfTheDaemonAreExplained(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"no value":        {503, `{"error":"unavailable","reason":"there is no value yet: IAM refused the key"}`, `get token "bot": there is no value yet: IAM refused the key`},
		"not there":       {404, `{"error":"not_found","reason":"x"}`, `there is none of that name on`},
		"forbidden":       {403, `{"error":"forbidden","reason":"only root may do this"}`, `get token "bot": only root may do this: run this as one of them, for example with sudo`},
		"something else":  {500, `<html>`, `it answered 500 with 6 bytes that are not its own; is that the daemon's socket?`},
		"not a value":     {200, `{"name":"bot"}`, `holds no value: is that the daemon's socket?`},
		"not even JSON":   {200, `t1.secret-secret-secret`, `holds no value: is that the daemon's socket?`},
		"a wait for long": {0, ``, `did not answer in time: see its log`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := socketOf(t, func(w http.ResponseWriter, r *http.Request) {
				if c.status == 0 {
					<-ctx.Done()
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			g := getter{app: testApp(t, nil), place: place{sockets: []string{path}, from: "--socket"}, until: time.Now().Add(patience)}
			deadline := t.Context()
			if c.status == 0 {
				var stop context.CancelFunc
				deadline, stop = context.WithTimeout(deadline, 50*time.Millisecond)
				defer stop()
			}
			_, err := g.get(deadline, "bot")
			cancel()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret-secret") {
				t.Error("it says the answer")
			}
			if code := exitCode(err); code != exitFailed {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestAReloadThatTakesLongIsWaitedFor(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	a, told := testApp(t, nil), make(chan string, 1)
	a.stderr = w
	go func() {
		line, _ := bufio.NewReader(r).ReadString('\n')
		told <- line
	}()
	var note string
	path := socketOf(t, func(w http.ResponseWriter, _ *http.Request) {
		note = <-told
		_, _ = w.Write([]byte(`{"result":"reloaded","reason":"configuration changed"}`))
	})
	if err := a.reload(t.Context(), newClient(path, "--socket"), 0, time.Millisecond); err != nil {
		t.Error(err)
	}
	if !strings.Contains(note, "note: still waiting for the daemon") {
		t.Errorf("it said %q", note)
	}
}

func TestAReloadThatIsNotWaitedForIsSaidToGoOn(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	path := socketOf(t, func(http.ResponseWriter, *http.Request) { <-ended })
	err := testApp(t, nil).reload(t.Context(), newClient(path, "--socket"), 50*time.Millisecond, time.Minute)
	close(ended)
	if err == nil || !strings.Contains(err.Error(), "not ended within 50ms; the daemon on "+path+" goes on, and its log says what comes of it") {
		t.Errorf("it says %v", err)
	}
}

func TestWhoMayConnectIsReadFromTheSocket(t *testing.T) {
	t.Parallel()
	path := socketOf(t, func(http.ResponseWriter, *http.Request) {})
	for mode, want := range map[fs.FileMode]string{
		0o600: "its mode 0600 lets in only root",
		0o660: "members of group " + groupName(uint32(os.Getegid())),
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		err := newClient(path, "--socket").unreachable(t.Context(), &net.OpError{Err: os.NewSyscallError("connect", syscall.EACCES)})
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "may not connect to the socket "+path) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	err := newClient(filepath.Join(path, "below"), "--socket").unreachable(t.Context(), syscall.EACCES)
	if !strings.Contains(err.Error(), "its directory is closed to you") {
		t.Error(err)
	}
}

func TestWhatIsNoSocketIsCalledThat(t *testing.T) {
	t.Parallel()
	live := socketOf(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("value")) })
	dir := filepath.Dir(live)
	file, stale, link := filepath.Join(dir, "file"), filepath.Join(dir, "stale"), filepath.Join(dir, "link")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(l.Close(), os.WriteFile(file, nil, 0o600), os.Symlink(stale, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:  file + " (from --socket) is not a socket",
		dir:   dir + " (from --socket) is not a socket",
		stale: "nobody listens on the socket " + stale,
		link:  "nobody listens on the socket " + link,
	} {
		if _, err := newClient(path, "--socket").ask(t.Context(), http.MethodGet, "/v1/tokens"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestGetWaitsForADaemonThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := getter{wait: true, until: time.Now().Add(10 * time.Second)}
		begin, tries := time.Now(), 0
		err := g.retry(t.Context(), func() error {
			if tries++; time.Since(begin) < 3*time.Second {
				return errAbsent
			}
			return nil
		})
		if took := time.Since(begin); err != nil || took < 3*time.Second || took > 4*time.Second || tries > 15 {
			t.Errorf("%v after %s and %d tries", err, took, tries)
		}
		err = g.retry(t.Context(), func() error { return errAbsent })
		if took := time.Since(begin); !errors.Is(err, errAbsent) || took != 10*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

func TestDaemonIsFoundByWhatIsSaidMostClearly(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	path := filepath.Join(dir, "config.yaml")
	write(t, path, `tokens:
  - name: bot
    source: {metadata: {}}
    probe: none
    sinks: [{socket: {path: /run/one.sock}}, {file: {path: /run/bot}}]
  - name: other
    source: {metadata: {}}
    probe: none
    sinks: [{socket: {path: /run/two.sock}}, {socket: {path: /run/one.sock}}]
status: {listen: "127.0.0.1:9117"}
`, 0o644)
	for name, c := range map[string]struct {
		env           map[string]string
		args          []string
		want, forBot  string
		forOther, err string
	}{
		"a flag":                         {args: []string{"--socket=/f"}, env: map[string]string{"ITR_SOCKET": "/v"}, want: "/f"},
		"a variable":                     {env: map[string]string{"ITR_SOCKET": "/v", "ITR_CONFIG": path}, want: "/v"},
		"a configuration":                {args: []string{"--config", path}, env: map[string]string{"ITR_SOCKET": "/v"}, want: "/run/one.sock /run/two.sock", forBot: "/run/one.sock", forOther: "/run/two.sock"},
		"a configuration by variable":    {env: map[string]string{"ITR_CONFIG": path}, want: "/run/one.sock /run/two.sock"},
		"variables that describe it":     {env: map[string]string{"ITR_SOCKET_PATH": "/d"}, want: "/d"},
		"both flags":                     {args: []string{"--socket=/f", "--config=/c"}, err: "both say where the daemon is"},
		"a configuration that is absent": {args: []string{"--config=/none/c.yaml"}, err: "there is no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testApp(t, c.env)
			cmd, _, err := a.root().Find([]string{"status"})
			if err != nil {
				t.Fatal(err)
			}
			w := &whereabouts{socket: cmd.Flags().Lookup("socket").Value.(*textFlag), config: cmd.Flags().Lookup("config").Value.(*textFlag)}
			if err := cmd.ParseFlags(c.args); err != nil {
				t.Fatal(err)
			}
			p, err := w.find(cmd, a)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || exitCode(err) != exitConfig {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(p.sockets, " "); got != c.want {
				t.Errorf("sockets %s", got)
			}
			if c.forBot != "" && (p.socketFor("bot") != c.forBot || p.socketFor("other") != c.forOther) {
				t.Errorf("sockets %s, %s", p.socketFor("bot"), p.socketFor("other"))
			}
		})
	}
}
