package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"iam-token-refresher/refresher/emulator"
)

const (
	hostile, accomplice, honest = 4301, 4302, 4303

	mostRSS      = 64 << 20
	mostPatience = 2 * time.Second // of the honest client; on a quiet machine it is 10 ms
)

// become makes the current thread, and no other, somebody else's. It must be
// locked and end with its goroutine.
func become(uid int) error {
	id := uintptr(uid)
	for _, call := range [][4]uintptr{
		{syscall.SYS_SETGROUPS, 0, uintptr(unsafe.Pointer(nil))},
		{syscall.SYS_SETRESGID, id, id, id},
		{syscall.SYS_SETRESUID, id, id, id},
	} {
		if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return errno
		}
	}
	return nil
}

// as does something as another user.
func as(uid int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := become(uid)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// mob are connections of one user.
type mob struct {
	*scene
	conns []net.Conn
}

// gather connects n times and sends text on each. Connections that are refused
// or closed are part of the game.
func (s *scene) gather(uid, n int, text string) *mob {
	s.Helper()
	m := &mob{scene: s}
	s.try(as(uid, func() error {
		for range n {
			c, err := net.Dial("unix", s.path("s"))
			// The system has room for 4,096 that wait to be accepted, and on a busy
			// machine this is faster than the daemon.
			for end := time.Now().Add(patience); errors.Is(err, syscall.EAGAIN) && time.Now().Before(end); {
				<-time.After(time.Millisecond)
				c, err = net.Dial("unix", s.path("s"))
			}
			if err != nil {
				return err
			}
			m.conns = append(m.conns, c)
			_, _ = io.WriteString(c, text)
		}
		return nil
	}))
	return m
}

func (m *mob) leave() {
	for _, c := range m.conns {
		c.Close()
	}
}

// answered waits for an answer on each connection that is still open.
func (m *mob) answered() (n int) {
	for _, c := range m.conns {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		n++
	}
	return n
}

// each does something with all connections at once.
func (m *mob) each(f func(net.Conn)) {
	var all sync.WaitGroup
	for _, c := range m.conns {
		all.Go(func() { f(c) })
	}
	all.Wait()
}

// honestly has an honest user ask n times, on connections of their own, and
// returns the longest that it took.
func (s *scene) honestly(n int) (longest time.Duration) {
	s.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
			return conn, errors.Join(as(honest, func() error { conn, err = net.Dial("unix", s.path("s")); return err }))
		},
	}}
	for range n {
		begin := time.Now()
		code, body := s.get(c, "http://localhost/v1/tokens/bot")
		longest = max(longest, time.Since(begin))
		if code != http.StatusOK || body != s.file() {
			s.Fatalf("the honest client is answered with %d", code)
		}
	}
	return longest
}

// memory reads a figure of /proc/PID/status in bytes.
func (s *scene) memory(figure string) int {
	s.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.daemon.cmd.Process.Pid))
	s.try(err)
	kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(between(string(text), figure+":", "\n"), "kB")))
	s.try(err)
	return kb << 10
}

func (s *scene) descriptors() int {
	s.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.daemon.cmd.Process.Pid))
	s.try(err)
	return len(list)
}

// goroutines ends the daemon and counts what it was doing.
func (s *scene) goroutines() int {
	s.Helper()
	s.try(s.daemon.signal(syscall.SIGQUIT))
	_, err := s.daemon.wait()
	s.try(err)
	return strings.Count(s.daemon.log.text(), "\ngoroutine ")
}

// openSinks lets everybody connect, and the honest read.
var openSinks = `      - file: {path: $S/bot.token}
      - socket: {path: $S/s, mode: "0666", allow: {users: ["` + strconv.Itoa(honest) + `"]}}
`

func crowded(t *testing.T, f func(*scene)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be several users")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 14000 {
		t.Skipf("the test needs 14000 descriptors and has %d: ulimit -n", limit.Cur)
	}
	play(t, emulator.Options{}, func(s *scene) {
		s.released()
		s.try(os.Chmod(s.dir, 0o755))
		f(s)
	})
}

func TestHostileClientsCostLittleAndKeepNobodyOut(t *testing.T) {
	const kept = "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\n"
	crowded(t, func(s *scene) {
		s.run(plot{sinks: openSinks})
		s.ready()
		s.honestly(3)
		quiet, descriptors := s.memory("VmRSS"), s.descriptors()
		t.Logf("quiet: %d KB, honest after %s", quiet>>10, s.honestly(20))
		for _, act := range []struct {
			name string
			play func() []*mob
		}{
			{"10,000 connections that say nothing", func() []*mob { return []*mob{s.gather(hostile, 10000, "")} }},
			{"half a request, by two users", func() []*mob {
				return []*mob{s.gather(hostile, 2048, "GET /v1/tok"), s.gather(accomplice, 2048, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 8<<10))}
			}},
			{"connections that are kept, by two users", func() []*mob {
				all := []*mob{s.gather(hostile, 2048, kept), s.gather(accomplice, 2048, kept)}
				if n := all[0].answered() + all[1].answered(); n < 4000 {
					s.Errorf("%d were answered", n)
				}
				return all
			}},
			{"1 MB of headers", func() []*mob {
				m := s.gather(hostile, 200, "GET / HTTP/1.1\r\nX: ")
				much := bytes.Repeat([]byte("x"), 1<<20)
				m.each(func(c net.Conn) { _, _ = c.Write(much) })
				return []*mob{m}
			}},
			{"requests by the thousand, whose answers nobody takes", func() []*mob {
				m := s.gather(hostile, 500, "")
				much := []byte(strings.Repeat(kept, 2000))
				m.each(func(c net.Conn) {
					_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
					_, _ = c.Write(much)
				})
				return []*mob{m}
			}},
			{"garbage after a request", func() []*mob {
				return []*mob{s.gather(hostile, 1000, kept+"GARBAGE\r\n\r\n\x00\xff"+kept)}
			}},
			{"half-closed connections", func() []*mob {
				m := s.gather(hostile, 2000, kept)
				m.each(func(c net.Conn) { _ = c.(*net.UnixConn).CloseWrite() })
				return []*mob{m}
			}},
			{"waiters that die", func() []*mob {
				const wait = "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\nIf-None-Match: *\r\n\r\n"
				m := s.gather(honest, 500, wait)
				m.leave()
				return []*mob{s.gather(hostile, 2048, wait)}
			}},
			{"readers who may, and wait", func() []*mob {
				const wait = "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\nIf-None-Match: *\r\n\r\n"
				return []*mob{s.gather(honest, 1900, wait), s.gather(0, 1000, wait)}
			}},
		} {
			s.try(os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.daemon.cmd.Process.Pid), []byte("5"), 0))
			mobs := act.play()
			took, most := s.honestly(20), s.memory("VmHWM")
			t.Logf("%s: at most %d KB, honest after %s", act.name, most>>10, took)
			if most > mostRSS {
				t.Errorf("%s: the daemon took %d KB, want at most %d", act.name, most>>10, mostRSS>>10)
			}
			if took > mostPatience {
				t.Errorf("%s: the honest client waited %s", act.name, took)
			}
			for _, m := range mobs {
				m.leave()
			}
			s.soon(func() bool { return s.descriptors() <= descriptors })
		}
		after := s.goroutines()
		s.run(plot{sinks: openSinks})
		s.ready()
		s.honestly(3)
		if fresh := s.goroutines(); after > fresh+20 {
			t.Errorf("%d goroutines are left, of a daemon without a crowd it is %d", after, fresh)
		}
	})
}

func TestWithFewDescriptorsACrowdKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	crowded(t, func(s *scene) {
		s.configure("bot", plot{sinks: openSinks + `      - metadata: {listen: "` + s.metadata + `"}` + "\n"}, false)
		limited := s.exec("run", "--config", "bot.yaml")
		sh := exec.Command("/bin/sh", "-c", `ulimit -n 128; exec "$0" "$@"`)
		sh.Args = append(sh.Args, limited.Args...)
		sh.Dir, sh.Env = limited.Dir, limited.Env
		var err error
		s.daemon, err = start(sh)
		s.try(err)
		s.daemons["run"] = s.daemon
		s.ready()
		for range 2 {
			m := s.gather(hostile, 500, "GET / HT")
			var silent []net.Conn
			for range 500 {
				c, err := net.Dial("tcp", s.metadata)
				s.try(err)
				defer c.Close()
				silent = append(silent, c)
				_, _ = io.WriteString(c, "GET / HT")
			}
			took := s.honestly(20)
			begin := time.Now()
			code, body := s.get(http.DefaultClient, "http://"+s.metadata+"/computeMetadata/v1/instance/service-accounts/default/token", "Metadata-Flavor", "Google")
			tcp := time.Since(begin)
			if code != http.StatusOK || !strings.Contains(body, s.file()) {
				s.Errorf("the metadata listener answers %d", code)
			}
			t.Logf("honest after %s, on TCP after %s, with %d descriptors in use", took, tcp, s.descriptors())
			if max(took, tcp) > mostPatience {
				t.Errorf("the honest client waited %s, on TCP %s", took, tcp)
			}
			s.renews() // for this, too, descriptors are left
			m.leave()
			for _, c := range silent {
				c.Close()
			}
		}
		s.ends()
	})
}

// soon waits for what the daemon is about to do.
func (s *scene) soon(done func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			s.Fatal("it did not happen")
		}
		<-time.After(2 * time.Millisecond)
	}
}
