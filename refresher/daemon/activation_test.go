package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/emulator"
)

// activated is what a service manager keeps between two daemons: a cloud with
// a configuration beside it, and a listening socket.
type activated struct {
	*testing.T
	config string // path of the configuration
	good   string // what the emulator put there
	socket string // path of the socket
	cloud  *emulator.Emulator
	file   *os.File
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func activate(t *testing.T) *activated {
	t.Helper()
	dir, err := os.MkdirTemp("", "itr") // t.TempDir may be too long for a socket
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cloud, err := emulator.Start(t.Context(), emulator.Options{Dir: dir})
	check(t, err)
	t.Cleanup(func() { _ = cloud.Close() })
	a := &activated{T: t, config: filepath.Join(dir, "config.yaml"), socket: filepath.Join(dir, "itr.sock"), cloud: cloud}
	data, err := os.ReadFile(a.config)
	check(t, err)
	a.good = string(data)
	a.file = listenFile(t, a.socket)
	return a
}

// listenFile binds a socket and keeps its descriptor alone.
func listenFile(t *testing.T, path string) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	check(t, err)
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	check(t, err)
	check(t, l.Close())
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (a *activated) write(text string) {
	a.Helper()
	check(a.T, os.WriteFile(a.config, []byte(text), 0o600))
}

// run runs a daemon on the socket until stop is called or the test ends.
func (a *activated) run() (d *Daemon, stop func()) {
	a.Helper()
	// Each process has descriptors of its own.
	l, err := net.FileListener(a.file)
	check(a.T, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	own, err := l.(*net.UnixListener).File()
	check(a.T, err)
	check(a.T, l.Close())
	r, w, err := os.Pipe()
	check(a.T, err)
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(&a.log, r) })
	d, err = New(a.Context(), Options{
		Load: func(try func(*config.Config) error) (*config.Config, error) {
			return config.Load(a.config, Kinds(), config.LoadOptions{Try: try})
		},
		ConfigPath: a.config, Stderr: w, Version: "test", Inherited: []*os.File{own},
	})
	check(a.T, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			a.Errorf("Run: %v", err)
		}
		_ = w.Close()
		copying.Wait()
		_ = r.Close()
	})
	a.Cleanup(stop)
	return d, stop
}

// get asks on the socket and waits for the answer, however long that takes.
func (a *activated) get(path string) (int, string) {
	a.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", a.socket)
		},
	}}
	resp, err := client.Get("http://localhost" + path)
	check(a.T, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(a.T, err)
	return resp.StatusCode, string(body)
}

const bot = "/v1/tokens/bot"

func TestAnInheritedSocketOutlivesTheDaemonAndItsReadersWait(t *testing.T) {
	t.Parallel()
	a := activate(t)
	d, stop := a.run()
	<-d.restored
	<-d.refresher.Ready()
	status, value := a.get(bot)
	if status != 200 {
		t.Fatalf("status %d: %s", status, value)
	}
	stop()
	if _, err := os.Lstat(a.socket); err != nil {
		t.Fatalf("the socket went with the daemon: %v", err)
	}
	// A reader comes while nobody is there.
	waiting := make(chan string)
	go func() {
		status, again := a.get(bot)
		waiting <- fmt.Sprint(status, again)
	}()
	a.run()
	if got := <-waiting; got != fmt.Sprint(200, value) {
		t.Errorf("the reader that waited got %s", got)
	}
}

func TestABrokenConfigurationIsToldToReadersAndPutRight(t *testing.T) {
	t.Parallel()
	a := activate(t)
	a.write("tokens: none\n")
	d, _ := a.run()
	status, body := a.get(bot)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, a.config+":1:") || !strings.Contains(body, `"state":"not_configured"`) {
		t.Errorf("status %d: %s", status, body)
	}
	if _, err := d.Reload(t.Context()); err == nil {
		t.Error("a reload of a broken configuration succeeds")
	}
	for _, err := range []error{d.Once(t.Context()), d.Check(t.Context(), true, func(CheckResult) {})} {
		if err == nil || !strings.Contains(err.Error(), a.config+":1:") {
			t.Errorf("Once or Check: %v", err)
		}
	}
	a.write(a.good)
	<-d.restored
	<-d.refresher.Ready()
	if status, body := a.get(bot); status != 200 {
		t.Errorf("put right: status %d: %s", status, body)
	}
}

func TestABrokenKeyLeavesWhatWasSavedServed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		breaks func(key string) string
		saved  bool // there is a state of before
		want   string
	}{
		{"no JSON", func(string) string { return "garbage" }, true, "200"},
		{"no PEM, of the same account", func(key string) string { return strings.Replace(key, "BEGIN", "BEGUN", 1) }, true, "200"},
		{"no PEM, of another account", func(key string) string {
			return strings.NewReplacer("BEGIN", "BEGUN", `"service_account_id": "`, `"service_account_id": "x`).Replace(key)
		}, true, "503"},
		{"nothing saved", func(string) string { return "garbage" }, false, "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := activate(t)
			keyFile := filepath.Join(filepath.Dir(a.config), "key.json")
			key, err := os.ReadFile(keyFile)
			check(t, err)
			value := ""
			if c.saved {
				d, stop := a.run()
				<-d.restored
				<-d.refresher.Ready()
				_, value = a.get(bot)
				stop()
			}
			broken := c.breaks(string(key))
			if broken == string(key) {
				t.Fatal("the key is not broken")
			}
			check(t, os.WriteFile(keyFile, []byte(broken), 0o600))
			d, _ := a.run()
			status, body := a.get(bot)
			if fmt.Sprint(status) != c.want || status == 200 && body != value {
				t.Fatalf("status %d: %s", status, body)
			}
			if status != 200 {
				want(t, "the answer", body, "key.json")
				return
			}
			<-d.restored
			st, err := d.refresher.Await(t.Context(), "bot", func(s refresher.Status) bool { return s.Failures > 0 })
			check(t, err)
			want(t, "the status", st.LastFailure, "key.json")
			check(t, os.WriteFile(keyFile, key, 0o600))
			_, err = d.refresher.Await(t.Context(), "bot", func(s refresher.Status) bool { return s.Version.N == 2 })
			check(t, err)
		})
	}
}

// want fails the test if a part is not there.
func want(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: there is no %q in %q", what, part, got)
		}
	}
}

func TestADaemonThatIsNotConfiguredStops(t *testing.T) {
	t.Parallel()
	a := activate(t)
	a.write("tokens: none\n")
	_, stop := a.run()
	a.get(bot)
	stop()
}

func TestAnInheritedSocketWithoutATokenTakesAReload(t *testing.T) {
	t.Parallel()
	a := activate(t)
	var lines []string
	for line := range strings.Lines(a.good) {
		if !strings.Contains(line, "- socket:") {
			lines = append(lines, line)
		}
	}
	a.write(strings.Join(lines, ""))
	d, _ := a.run()
	if status, body := a.get(bot); status != http.StatusNotFound {
		t.Errorf("status %d: %s", status, body)
	}
	<-d.restored
	// The socket goes to the token, and away from it, while it is listened on.
	for _, c := range []struct {
		text   string
		status int
	}{{a.good, 200}, {strings.Join(lines, ""), 404}, {a.good, 200}} {
		<-d.refresher.Ready()
		a.write(c.text)
		if _, err := d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status, body := a.get(bot); status != c.status {
			t.Errorf("status %d instead of %d: %s", status, c.status, body)
		}
	}
}

func TestSocketsAreInheritedByTheirPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	check(t, err)
	check(t, os.Mkdir(filepath.Join(dir, "run"), 0o700))
	check(t, os.Symlink("run", filepath.Join(dir, "var")))
	t.Chdir(dir) // short names
	path := filepath.Join("run", "s")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer tcp.Close()
	other, err := tcp.(*net.TCPListener).File()
	check(t, err)
	regular, err := os.Create("file")
	check(t, err)
	in, unfit := inherit([]*os.File{listenFile(t, path), other, regular})
	if len(in) != 1 || len(unfit) != 2 {
		t.Errorf("inherited %v, not %q", in, unfit)
	}
	for asked, found := range map[string]bool{path: true, "var/s": true, "./run/s": true, "run/t": false, "s": false} {
		as, ok := in.find(asked)
		if ok != found || ok && as != path {
			t.Errorf("%s: %q %t", asked, as, ok)
		}
	}
	if empty, unfit := inherit([]*os.File{}); len(empty) != 0 || !slices.Equal(unfit, nil) {
		t.Error("something was inherited from nobody")
	}
}
