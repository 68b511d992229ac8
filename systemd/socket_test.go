package systemd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// loadVariable makes this test's own program a load on the socket it names, to
// be run in the machine; it ends with SIGTERM and says what it has seen.
const loadVariable = "SYSTEMD_TEST_LOAD"

func TestMain(m *testing.M) {
	if path := os.Getenv(loadVariable); path != "" {
		os.Exit(load(path))
	}
	os.Exit(m.Run())
}

// tally is what a load has seen.
type tally struct {
	New, Reused, Closed int64    // answers on new and on reused connections, and clean closes of the latter
	Longest             int64    // in milliseconds, of an answer
	Wrong               []string // everything else
}

func load(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var mu sync.Mutex
	var all tally
	count := func(of *int64, began time.Time) {
		mu.Lock()
		defer mu.Unlock()
		*of++
		all.Longest = max(all.Longest, time.Since(began).Milliseconds())
	}
	wrong := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if len(all.Wrong) < 10 {
			all.Wrong = append(all.Wrong, fmt.Sprintf(format, args...))
		}
	}
	var readers sync.WaitGroup
	var paused atomic.Bool
	for range 8 {
		readers.Go(func() {
			for ctx.Err() == nil && !paused.Load() {
				began := time.Now()
				c, err := net.Dial("unix", path)
				if err != nil {
					wrong("connect: %v", err)
					continue
				}
				if err := ask(c, bufio.NewReader(c)); err != nil {
					wrong("new connection: %v", err)
				} else {
					count(&all.New, began)
				}
				_ = c.Close()
			}
		})
	}
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				c, err := net.Dial("unix", path)
				if err != nil {
					wrong("connect: %v", err)
					continue
				}
				r := bufio.NewReader(c)
				for n := 0; ctx.Err() == nil; n++ {
					began := time.Now()
					err := ask(c, r)
					if err == nil {
						count(&all.Reused, began)
						continue
					}
					// A request may cross the close: nothing of an answer came.
					if n > 0 && (errors.Is(err, errNoAnswer) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
						count(&all.Closed, began)
					} else {
						wrong("request %d of a connection: %v", n, err)
					}
					break
				}
				_ = c.Close()
			}
		})
	}
	readers.Wait()
	_ = json.NewEncoder(os.Stdout).Encode(all)
	return 0
}

var errNoAnswer = errors.New("closed without an answer")

func ask(c net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET /v1/tokens/bot HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	if _, err := r.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			return errNoAnswer
		}
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("half an answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("half an answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK || len(body) == 0 {
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return nil
}

// underLoad does something while readers ask, and returns what they saw.
func (m *machine) underLoad(do func()) tally {
	m.Helper()
	self, err := os.Executable()
	if err != nil {
		m.Fatal(err)
	}
	m.push(self, "/var/tmp/load")
	args := append(m.run[1:len(m.run):len(m.run)], "sh", "-c", "echo begun; exec env "+loadVariable+"=/run/iam-token-refresher.sock /var/tmp/load")
	cmd := exec.CommandContext(m.Context(), m.run[0], args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "begun\n" {
		m.Fatalf("the load does not begin: %q %v", line, err)
	}
	do()
	m.do("pkill -TERM -x load")
	var seen tally
	if err := json.NewDecoder(r).Decode(&seen); err != nil {
		m.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		m.Fatal(err)
	}
	m.Logf("%d answers on new connections, %d on reused ones and %d clean closes, the longest after %d ms", seen.New, seen.Reused, seen.Closed, seen.Longest)
	for _, w := range seen.Wrong {
		m.Errorf("a reader saw: %s", w)
	}
	if seen.New == 0 || seen.Reused == 0 {
		m.Error("readers got no answers at all")
	}
	return seen
}

func TestNoReaderIsRefusedDuringTwentyRestarts(t *testing.T) {
	m := booted(t)
	m.start()
	m.underLoad(func() {
		m.do("for i in $(seq 20); do systemctl restart -q " + unit + " || exit 1; done")
	})
}

func TestNoReaderIsRefusedWhenTheDaemonIsKilled(t *testing.T) {
	m := booted(t)
	m.quickWatchdog()
	m.start()
	pid := m.property("MainPID")
	// Whoever was being answered is cut off; nobody who comes then is refused.
	m.do("kill -KILL " + pid)
	m.do(readSocket)
	if m.property("MainPID") == pid {
		t.Error("it still runs")
	}
}

func TestABrokenConfigurationLeavesTheSocketUp(t *testing.T) {
	m := booted(t)
	m.write(configPath, "tokens: none\n")
	m.do("systemctl start --no-block " + unit)
	m.await("systemctl show " + unit + " -p StatusText | grep -q 'not configured'")
	want(t, "answer", m.do("curl -sS -w ' %{http_code}' --unix-socket /run/iam-token-refresher.sock http://localhost/v1/tokens/bot"), configPath+":1:", `"not_configured"`, " 503")
	want(t, "status", m.do("systemctl show "+unit+" -p StatusText"), "not configured: "+configPath+":1:")
	if got := m.property("ActiveState") + m.property("NRestarts") + m.do("systemctl is-active iam-token-refresher.socket"); got != "activating0active" {
		t.Errorf("it is %s", got)
	}
	m.write(configPath, m.usual())
	m.await("systemctl is-active -q " + unit)
	m.do(readSocket + " -f")
	// A mistake in what runs is not taken up, and at the next start it is the same again.
	m.write(configPath, "tokens: none\n")
	m.do("systemctl restart --no-block " + unit)
	m.await("systemctl show " + unit + " -p StatusText | grep -q 'not configured'")
	m.do("systemctl stop -q " + unit)
	if got := m.property("Result"); got != "success" {
		t.Errorf("stopped while it is not configured: %s", got)
	}
}

func TestWithoutTheSocketABrokenConfigurationEndsWith78(t *testing.T) {
	m := booted(t)
	m.do("systemctl stop -q iam-token-refresher.socket; systemctl mask -q iam-token-refresher.socket")
	m.write(configPath, "tokens: none\n")
	if out, err := m.try("systemctl start " + unit); err == nil {
		t.Errorf("it starts: %s", out)
	}
	if got := m.property("ExecMainStatus") + m.property("ActiveState") + m.property("NRestarts"); got != "78failed0" {
		t.Errorf("it is %s", got)
	}
	want(t, "log at err", m.do("journalctl -b --no-pager -o cat -p err -u "+unit), configPath+":1:")
}

func TestTheSocketTakesAReloadWhenNoTokenIsOnIt(t *testing.T) {
	m := booted(t)
	m.start("      - socket: {path: /run/iam-token-refresher.sock}\n", "")
	m.do("systemctl reload " + unit)
	want(t, "answer", m.do("curl -sS -w ' %{http_code}' --unix-socket /run/iam-token-refresher.sock http://localhost/v1/tokens/bot"), " 404")
}

func TestTheSocketUnitLetsAGroupIn(t *testing.T) {
	m := booted(t)
	m.do("getent group bots >/dev/null || groupadd bots; id robot >/dev/null 2>&1 || useradd -G bots robot")
	m.dropIn("socket-group.conf", "iam-token-refresher.socket")
	m.start("iam-token-refresher.sock}", "iam-token-refresher.sock, allow: {users: [robot]}}")
	m.do("setpriv --reuid=robot --regid=robot --init-groups " + readSocket + " -f")
	if out, err := m.try("setpriv --reuid=nobody --regid=nogroup --clear-groups " + readSocket + " -f"); err == nil {
		t.Errorf("anybody may read: %s", out)
	}
	if !strings.Contains(m.do("stat -c '%a %G' /run/iam-token-refresher.sock"), "660 bots") {
		t.Error("the socket is not the group's")
	}
}
