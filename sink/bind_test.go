package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTheSocketHasItsModeAndOwner(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	o := SocketOptions{Path: socketPath(t), Mode: 0o660}
	if os.Geteuid() == 0 {
		o.Owner, o.Group = "grafana", "bots"
	}
	s := newServer(t, d, ServerOptions{Socket: o})
	must(t, s.Listen())
	wantSocket := func(mode os.FileMode, uid, gid uint32) {
		t.Helper()
		st, err := os.Lstat(o.Path)
		must(t, err)
		sys := st.Sys().(*syscall.Stat_t)
		if st.Mode().Perm() != mode || os.Geteuid() == 0 && (sys.Uid != uid || sys.Gid != gid) {
			t.Errorf("the socket is %04o %d:%d, want %04o %d:%d", st.Mode().Perm(), sys.Uid, sys.Gid, mode, uid, gid)
		}
	}
	wantSocket(0o660, 1234, 2345)

	before, err := os.Lstat(o.Path)
	must(t, err)
	must(t, s.SetSocket(SocketOptions{Mode: 0o666}, accounts()))
	wantSocket(0o666, 0, 0)
	after, err := os.Lstat(o.Path)
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("it is another socket now")
	}
	wantAnswer(t, get(t, s, "/v1/tokens"), 200, "[]")
	wantError(t, s.SetSocket(SocketOptions{Owner: "who"}, accounts()), `there is no user "who"`)
}

func TestWhatTookTheSocketsPlaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(path, secret string) error{
		"a link":         func(path, secret string) error { return os.Symlink(secret, path) },
		"the file":       func(path, secret string) error { return os.Link(secret, path) },
		"another socket": func(path, _ string) error { return listenThere(t, path) },
		"nothing":        func(string, string) error { return nil },
	} {
		s := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Mode: 0o660}})
		must(t, s.Listen())
		secret := s.Path() + "ecret"
		must(t, os.WriteFile(secret, nil, 0o600))
		must(t, os.Remove(s.Path()))
		must(t, plant(s.Path(), secret))
		o := SocketOptions{Mode: 0o666}
		if os.Geteuid() == 0 {
			o.Owner, o.Group = "grafana", "bots"
		}
		if err := s.SetSocket(o, accounts()); err == nil {
			t.Errorf("%s: no error", name)
		}
		for _, path := range []string{secret, s.Path()} {
			if st, err := os.Stat(path); err == nil && (st.Mode().Perm() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid())) {
				t.Errorf("%s: %s is %v now, of user %d", name, path, st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
			}
		}
	}
}

// What is swapped between bind(2) and the first chmod(2) is found, too.
func TestASocketThatIsSwappedAtOnceIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(path, other string) error{
		"a link to a file":          func(path, _ string) error { return os.Symlink("/etc/passwd", path) },
		"a link to a socket":        func(path, other string) error { return os.Symlink(other, path) },
		"another socket of ours":    func(path, other string) error { return os.Rename(other, path) },
		"a socket that nobody uses": func(path, _ string) error { return listenThere(t, path) },
	} {
		path := socketPath(t)
		l, err := listenPrivately(path)
		must(t, err)
		defer l.Close()
		b := &bound{UnixListener: l, path: path}
		must(t, b.identify())
		b.file = nil
		other, err := listenPrivately(path + "2")
		must(t, err)
		defer other.Close()
		must(t, os.Remove(path))
		must(t, plant(path, path+"2"))
		if err := b.identify(); !errors.Is(err, errReplaced) || b.file != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// listenThere leaves a socket behind.
func listenThere(t *testing.T, path string) error {
	t.Helper()
	l, err := listenPrivately(path)
	must(t, err)
	l.SetUnlinkOnClose(false)
	return l.Close()
}

// The umask belongs to the process: this test runs alone.
func TestTheSocketHasItsModeUnderAnyUmask(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		s := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: socketPath(t), Mode: 0o622}})
		old := syscall.Umask(umask)
		err := s.Listen()
		syscall.Umask(old)
		must(t, err)
		if st, err := os.Lstat(s.Path()); err != nil || st.Mode().Perm() != 0o622 {
			t.Errorf("umask %04o: the socket is %v, %v", umask, st.Mode(), err)
		}
	}
}

func TestNobodyCanConnectBeforeTheSocketHasItsMode(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := socketPath(t)
	l, err := listenPrivately(path)
	must(t, err)
	defer l.Close()
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("a new socket is %v, %v", st.Mode(), err)
	}
}

func TestALeftoverSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	s := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: path}})
	must(t, endpoint(t, s, "bot", nil).Check(t.Context()))
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("Check removed the leftover: %v", err)
	}
	must(t, s.Listen())
	wantAnswer(t, get(t, s, "/v1/tokens"), 200, "[]")
}

// ownListener is what is said where the daemon would take a place from itself.
const ownListener = "this daemon itself listens there already, for something else"

func TestALiveSocketOfOursIsLeftAloneAndNamedAsOurs(t *testing.T) {
	t.Parallel()
	first := newServer(t, newDaemon(), ServerOptions{})
	must(t, first.Listen())
	second := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: first.Path()}})
	for _, err := range []error{second.Listen(), endpoint(t, second, "bot", nil).Check(t.Context())} {
		wantError(t, err, ownListener)
	}
	must(t, second.Close(t.Context()))
	wantAnswer(t, get(t, first, "/v1/tokens"), 200, "[]")
	must(t, endpoint(t, first, "bot", nil).Check(t.Context()))
	wantError(t, first.Listen(), "it listens already")
}

func TestASocketThatAnotherSinkHadIsNotSaidToBeAnothersProcess(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	first := newServer(t, d, ServerOptions{})
	must(t, first.Listen())
	p, err := NewProxyServer(ProxyServerOptions{Proxy: ProxyOptions{Listen: first.Path()}, Accounts: accounts(), Live: d.live()})
	must(t, err)
	err = p.Listen()
	wantError(t, err, ownListener)
	wantError(t, err, "restart the daemon")
	if strings.Contains(err.Error(), "stop it") {
		t.Errorf("it tells to stop itself: %v", err)
	}
}

func TestWhatKeepsASocketFromBeingBoundIsNamed(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	file, datagram := filepath.Join(dir, "file"), filepath.Join(dir, "datagram")
	must(t, os.WriteFile(file, nil, 0o600))
	other, err := net.ListenPacket("unixgram", datagram)
	must(t, err)
	defer other.Close()
	for path, want := range map[string]string{
		file:                                     "something that is not a socket is there",
		datagram:                                 "it cannot be told whether somebody listens",
		filepath.Join(dir, "no", "s"):            "create the directory " + filepath.Join(dir, "no"),
		"/" + strings.Repeat("s", maxSocketPath): fmt.Sprintf("the system takes at most %d", maxSocketPath),
		filepath.Join(dir, strings.Repeat("s", 70)): "",
	} {
		s := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: path}})
		check, listen := endpoint(t, s, "bot", nil).Check(t.Context()), s.Listen()
		if want == "" {
			must(t, check)
			must(t, listen)
			continue
		}
		wantError(t, check, want)
		wantError(t, listen, want)
	}
	for _, path := range []string{file, datagram} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("what was there is gone: %v", err)
		}
	}
}

func TestCloseRemovesTheSocketUnlessItIsSomebodyElses(t *testing.T) {
	t.Parallel()
	s := newServer(t, newDaemon(), ServerOptions{})
	must(t, s.Listen())
	must(t, s.Close(t.Context()))
	if _, err := os.Lstat(s.Path()); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	must(t, s.Close(t.Context()))

	s = newServer(t, newDaemon(), ServerOptions{})
	must(t, s.Listen())
	must(t, os.Remove(s.Path()))
	other, err := net.Listen("unix", s.Path())
	must(t, err)
	defer other.Close()
	must(t, s.Close(t.Context()))
	if _, err := os.Lstat(s.Path()); err != nil {
		t.Errorf("somebody else's socket was removed: %v", err)
	}
}

func TestAnInheritedSocketIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	defer l.Close()
	must(t, os.Chmod(path, 0o640))
	f, err := l.File() // as systemd keeps it open
	must(t, err)
	defer f.Close()
	for range 2 {
		inherited, err := net.FileListener(f)
		must(t, err)
		s := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: path, Mode: 0o600}, Inherited: inherited})
		must(t, endpoint(t, s, "bot", nil).Check(t.Context()))
		must(t, s.Listen())
		must(t, s.SetSocket(SocketOptions{Mode: 0o666}, accounts()))
		wantAnswer(t, get(t, s, "/v1/tokens"), 200, "[]")
		must(t, s.Close(context.Background()))
		if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o640 {
			t.Fatalf("the socket is %v, %v", st, err)
		}
		c, err := net.Dial("unix", path)
		must(t, err)
		c.Close()
	}
}

func TestASocketThatWasRemovedIsPutBack(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, tokens := serve(t, d, "bot")
	d.publish(t, version("bot", 1), tokens["bot"])
	before := client(t, s.Path())
	wantAnswer(t, ask(t, before, http.MethodGet, "/v1/tokens/bot"), 200, secret("bot", 1).Reveal())
	early, err := net.Dial("unix", s.Path()) // and says nothing yet
	must(t, err)
	defer early.Close()

	must(t, os.Remove(s.Path()))
	must(t, tokens["bot"].Check(t.Context()))
	d.publish(t, version("bot", 2), tokens["bot"])
	for name, c := range map[string]*http.Client{"before": before, "early": overConn(early), "after": client(t, s.Path())} {
		if a, err := try(t.Context(), c, http.MethodGet, "/v1/tokens/bot"); err != nil || a.body != secret("bot", 2).Reveal() {
			t.Errorf("who connected %s got %d %q, %v", name, a.code, a.body, err)
		}
	}
	if st, err := os.Lstat(s.Path()); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("the socket is %v, %v", st, err)
	}

	must(t, os.Remove(s.Path()))
	must(t, os.WriteFile(s.Path(), nil, 0o600))
	for range 2 {
		for call, err := range map[string]error{"Check": tokens["bot"].Check(t.Context()), "Publish": tokens["bot"].Publish(t.Context(), version("bot", 2)), "Keep": s.Keep()} {
			wantError(t, err, "something that is not a socket is there")
			if t.Failed() {
				t.Fatal(call)
			}
		}
	}
	must(t, os.Remove(s.Path()))
	must(t, s.Keep())
	wantAnswer(t, get(t, s, "/v1/tokens/bot"), 200, secret("bot", 2).Reveal())

	must(t, os.Remove(s.Path()))
	must(t, s.Close(t.Context()))
	must(t, s.Keep())
	if _, err := os.Lstat(s.Path()); !os.IsNotExist(err) {
		t.Errorf("after its end the socket is put back: %v", err)
	}
}
