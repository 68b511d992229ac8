package daemon

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

// serviceManager stands in for systemd: what it is told arrives in said.
func serviceManager(t *testing.T) (said <-chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 1000)
	go func() {
		defer close(told)
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	return told
}

// hear waits for a message that begins with start, and returns it with those
// before.
func hear(t *testing.T, said <-chan string, start string) []string {
	t.Helper()
	var all []string
	for message := range said {
		all = append(all, message)
		if strings.HasPrefix(message, start) {
			return all
		}
	}
	t.Fatalf("never heard %q, but %q", start, all)
	return nil
}

func TestTheServiceManagerHearsWhatHappens(t *testing.T) {
	said := serviceManager(t)
	t.Setenv("WATCHDOG_USEC", "200000")
	a := activate(t)
	d, stop := a.run()
	before := hear(t, said, "READY=1")
	if got := before[len(before)-1]; !strings.HasPrefix(got, "READY=1\nSTATUS=1 token fresh, next refresh in ") {
		t.Errorf("ready with %q", got)
	}
	for _, message := range before[:len(before)-1] {
		if strings.Contains(message, "READY") || strings.Contains(message, "RELOADING") {
			t.Errorf("before it is ready: %q", message)
		}
	}
	hear(t, said, "WATCHDOG=1")

	a.write(a.good + "wrong: 1\n")
	if _, err := d.Reload(t.Context()); err == nil {
		t.Error("the broken configuration is taken")
	}
	hear(t, said, "RELOADING=1\nMONOTONIC_USEC=")
	hear(t, said, "READY=1")

	stop()
	hear(t, said, "STOPPING=1")
	for {
		select {
		case message := <-said:
			if message != "WATCHDOG=1" { // that is wanted until the very end
				t.Errorf("after the last word: %q", message)
			}
		default:
			return
		}
	}
}

func TestTheStatusLineFollowsChangesAndNoTimer(t *testing.T) {
	said := serviceManager(t)
	a := activate(t)
	d, _ := a.run()
	hear(t, said, "READY=1")
	check(t, a.cloud.Close())
	if _, err := d.refresher.Refresh(t.Context(), "bot"); err != nil {
		t.Fatal(err)
	}
	hear(t, said, "STATUS=bot: refresh failing")
}

func TestAStuckLoopDoesNotQuietTheWatchdog(t *testing.T) {
	said := serviceManager(t)
	a := activate(t)
	d, _ := a.run()
	hear(t, said, "READY=1")
	stuck, free := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = d.refresher.Await(context.Background(), "bot", func(refresher.Status) bool {
			select {
			case <-stuck:
			default:
				close(stuck)
				<-free
			}
			return true
		})
	}()
	<-stuck
	d.beat(t.Context(), time.Millisecond)
	d.manager.send("X_MARK=1")
	if all := hear(t, said, "X_MARK=1"); strings.Contains(strings.Join(all, " "), "WATCHDOG") {
		t.Errorf("it said %q", all)
	}
	close(free)
	d.beat(t.Context(), aliveTimeout)
	hear(t, said, "WATCHDOG=1")
}

func TestReloadsBeforeTheStartIsOverAreNotAnnounced(t *testing.T) {
	said := serviceManager(t)
	var m manager
	m.reloading()()
	m.readyNow("fine")
	m.status("fine") // as it is shown
	end := m.reloading()
	m.stopping()
	end()
	m.status("too late")
	m.readyNow("too late")
	m.send("X_MARK=1")
	got := hear(t, said, "X_MARK=1")
	if len(got) != 4 || got[0] != "READY=1\nSTATUS=fine" || !strings.HasPrefix(got[1], "RELOADING=1") || got[2] != "STOPPING=1\nSTATUS=stopping" {
		t.Errorf("it said %q", got)
	}
}
