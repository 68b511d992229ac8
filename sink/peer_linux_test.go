package sink

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/peer"
)

// asUser runs f as another user, on a thread that ends with it: on Linux ids
// belong to threads, and the kernel notes those of the thread that connects.
func asUser(t *testing.T, uid, gid uint32, groups []uint32, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		u, g := uintptr(uid), uintptr(gid)
		for _, call := range [][4]uintptr{
			{syscall.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups)))},
			{syscall.SYS_SETRESGID, g, g, g},
			{syscall.SYS_SETRESUID, u, u, u},
		} {
			if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- errno
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		t.Fatalf("become user %d: %v", uid, err)
	}
}

// dialAs returns a client on one connection that another user made.
func dialAs(t *testing.T, path string, uid, gid uint32, groups ...uint32) *http.Client {
	t.Helper()
	var c net.Conn
	var err error
	asUser(t, uid, gid, groups, func() { c, err = net.Dial("unix", path) })
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return overConn(c)
}

func TestTheKernelSaysWhoThePeerIs(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	must(t, err)
	defer l.Close()
	must(t, os.Chmod(path, 0o666))
	many := make([]uint32, 300)
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	for _, groups := range [][]uint32{{}, {7}, many} {
		asUser(t, 1234, 99, groups, func() {
			c, err := net.Dial("unix", path)
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
		})
		c, err := l.Accept()
		must(t, err)
		defer c.Close()
		p, err := peer.Of(c)
		must(t, err)
		if p.UID != 1234 || p.GID != 99 || p.PID != os.Getpid() {
			t.Errorf("the peer is %d:%d, pid %d; want 1234:99, %d", p.UID, p.GID, p.PID, os.Getpid())
		}
		for _, gid := range append(many, 7, 8) {
			if got := p.In([]uint32{gid}); got != slices.Contains(groups, gid) {
				t.Errorf("a member of group %d: %t, with %d groups", gid, got, len(groups))
			}
		}
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if _, err := peer.Of(near); err == nil {
		t.Error("somebody is at the other end of a pipe")
	}
}

func TestAllowDecidesWhoReads(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, _ := serve(t, d)
	var all []*Endpoint
	for name, allow := range map[string]*Allow{
		"open":     nil,
		"user":     {Users: []string{"grafana"}},
		"group":    {Groups: []string{"bots"}},
		"either":   {Users: []string{"7"}, Groups: []string{"3456", "bots"}},
		"stranger": {Users: []string{"9"}, Groups: []string{"9"}},
	} {
		e := endpoint(t, s, name, allow)
		d.publish(t, version(name, 1), e)
		all = append(all, e)
	}
	s.Update(all...)
	names := []string{"either", "group", "open", "stranger", "user"}
	for who, c := range map[string]struct {
		uid, gid uint32
		groups   []uint32
		reads    string
	}{
		"root":                                {0, 0, nil, "either group open stranger user"},
		"grafana":                             {1234, 1234, nil, "open user"},
		"primary group":                       {500, 2345, nil, "either group open"},
		"supplementary group":                 {500, 500, []uint32{1, 2345}, "either group open"},
		"another group":                       {500, 500, []uint32{3456}, "either open"},
		"the other user":                      {7, 500, nil, "either open"},
		"nobody":                              {65534, 65534, []uint32{65534}, "open"},
		"a number of a user as a group":       {500, 1234, []uint32{1234}, "open"},
		"a number of a group as a user":       {2345, 500, nil, "open"},
		"root's group does not make one root": {500, 0, []uint32{0}, "open"},
	} {
		client := dialAs(t, s.Path(), c.uid, c.gid, c.groups...)
		var reads []string
		for _, name := range names {
			raw := ask(t, client, "GET", "/v1/tokens/"+name)
			service := ask(t, client, "GET", servicePath+name+"/token", "Metadata-Flavor", "Google")
			if raw.code == 200 {
				reads = append(reads, name)
			}
			if raw.code != service.code {
				t.Errorf("%s reads %s with %d and with %d", who, name, raw.code, service.code)
			}
		}
		if got := strings.Join(reads, " "); got != c.reads {
			t.Errorf("%s reads %q, want %q", who, got, c.reads)
		}
		list := ask(t, client, "GET", "/v1/tokens").body
		for _, name := range names {
			if listed, may := strings.Contains(list, `"`+name+`"`), strings.Contains(c.reads, name); listed != may {
				t.Errorf("%s sees %s", who, list)
			}
		}
	}
}

func TestWhatIsForbiddenLooksLikeWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, _ := serve(t, d)
	e := endpoint(t, s, "secret", &Allow{Users: []string{"9"}})
	s.Update(e)
	d.publish(t, version("secret", 1), e)
	c := dialAs(t, s.Path(), 1234, 1234)
	same := func(method, path string, headers ...string) {
		t.Helper()
		there, nowhere := ask(t, c, method, path, headers...), ask(t, c, method, strings.ReplaceAll(path, "secret", "nowhere"), headers...)
		there.header.Del("Date")
		nowhere.header.Del("Date")
		if there.code != 404 || !reflect.DeepEqual(there, nowhere) {
			t.Errorf("%s %s: %+v, and for what does not exist %+v", method, path, there, nowhere)
		}
	}
	same("GET", "/v1/tokens/secret")
	same("HEAD", "/v1/tokens/secret")
	same("GET", "/v1/tokens/secret", "Accept", "application/json", "If-None-Match", `"x"`, "Prefer", "wait=60")
	same("GET", servicePath+"secret/token", "Metadata-Flavor", "Google")
	same("GET", servicePath+"default/token", "Metadata-Flavor", "Google")
	same("POST", "/v1/tokens/secret/report", "If-Match", `"abc-1"`)
	same("POST", "/v1/tokens/secret/refresh")
	if got := e.Reads()["forbidden"]; got != 8 { // default twice
		t.Errorf("%d forbidden reads were counted, want 8", got)
	}
	if len(d.reports)+len(d.refreshed) > 0 {
		t.Errorf("reports %v, refreshes %v", d.reports, d.refreshed)
	}
}

func TestOnlyRootAndOurselvesGiveOrders(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, _ := serve(t, d, "bot")
	for _, uid := range []uint32{1234, 65534} {
		c := dialAs(t, s.Path(), uid, 0)
		wantAnswer(t, ask(t, c, "POST", "/v1/reload"), 403, "only root and the user that the daemon runs as")
		wantAnswer(t, ask(t, c, "POST", "/v1/tokens/bot/refresh"), 403, "forbidden")
	}
	if len(d.refreshed) > 0 {
		t.Errorf("refreshed %v", d.refreshed)
	}
}

func TestOurOwnUserIsAlwaysAllowed(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, _ := serve(t, d)
	e := endpoint(t, s, "bot", &Allow{Users: []string{"9"}})
	d.publish(t, version("bot", 1), e)
	s.Update(e)
	ours := peer.Peer{UID: uint32(os.Geteuid())}
	if !ours.Admin() || !e.allow.admits(&ours) {
		t.Error("our own user may not read")
	}
	wantAnswer(t, get(t, s, "/v1/tokens/bot"), 200, "t1.bot-1.")
}

func TestConnectionsWhoseRightsShrankAreClosed(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, _ := serve(t, d)
	make2 := func(a, b *Allow) {
		t.Helper()
		ea, eb := endpoint(t, s, "a", a), endpoint(t, s, "b", b)
		d.publish(t, version("a", 1), ea)
		d.publish(t, version("b", 1), eb)
		s.Update(ea, eb)
	}
	grafana, bots := &Allow{Users: []string{"grafana"}}, &Allow{Groups: []string{"bots"}}
	make2(grafana, bots)
	user, group := dialAs(t, s.Path(), 1234, 1234), dialAs(t, s.Path(), 500, 2345)
	root := dialAs(t, s.Path(), 0, 0)
	wantAnswer(t, ask(t, user, "GET", "/v1/tokens/a"), 200, "t1.a-1.")
	wantAnswer(t, ask(t, group, "GET", "/v1/tokens/b"), 200, "t1.b-1.")

	make2(nil, bots) // more for the user
	wantAnswer(t, ask(t, user, "GET", "/v1/tokens/a"), 200, "t1.a-1.")
	waiter, waiting := dialAs(t, s.Path(), 1234, 1234), make(chan int)
	go func() {
		a, _ := try(t.Context(), waiter, "GET", "/v1/tokens/a", "If-None-Match", `"abc-1"`, "Prefer", "wait=60")
		waiting <- a.code
	}()
	until(t, func() bool { return s.server.Counts().Detached == 1 })
	make2(bots, bots)                                // nothing left for the user
	if code := <-waiting; code != 0 && code != 404 { // 404: it had only just begun
		t.Errorf("a wait survived the loss of its rights, and got %d", code)
	}
	if _, err := try(t.Context(), user, "GET", "/v1/tokens/b"); err == nil {
		t.Error("a connection survived the loss of its rights")
	}
	wantAnswer(t, ask(t, group, "GET", "/v1/tokens/a"), 200, "t1.a-1.")
	wantAnswer(t, ask(t, root, "GET", "/v1/tokens/a"), 200, "t1.a-1.")
	wantAnswer(t, ask(t, dialAs(t, s.Path(), 1234, 1234), "GET", "/v1/tokens/a"), 404, "not_found")
}

// The kernel asks for the mode at the connect, and connections outlive reloads.
func TestConnectionsThatTheSocketWouldNoLongerLetInAreClosed(t *testing.T) {
	t.Parallel()
	grafana := &Allow{Users: []string{"grafana"}}
	for name, c := range map[string]struct {
		before, after *Allow
		socket        SocketOptions
		goes, stays   [][2]uint32 // uid and gid
	}{
		"allow is replaced by a mode":  {grafana, nil, SocketOptions{Mode: 0o600}, [][2]uint32{{77, 77}, {1234, 1234}}, [][2]uint32{{0, 0}}},
		"the mode is narrowed":         {nil, nil, SocketOptions{Mode: 0o660, Group: "bots"}, [][2]uint32{{77, 77}}, [][2]uint32{{0, 0}, {77, 2345}}},
		"the group loses its right":    {nil, nil, SocketOptions{Mode: 0o606, Group: "bots"}, [][2]uint32{{77, 2345}}, [][2]uint32{{0, 0}, {77, 77}}},
		"it is given to a user":        {nil, nil, SocketOptions{Mode: 0o600, Owner: "grafana"}, [][2]uint32{{77, 77}}, [][2]uint32{{0, 0}, {1234, 1}}},
		"with allow the mode counts":   {grafana, grafana, SocketOptions{Mode: 0o600}, [][2]uint32{{1234, 1234}}, [][2]uint32{{0, 0}}},
		"a mode that is as good stays": {nil, nil, SocketOptions{Mode: 0o662}, nil, [][2]uint32{{0, 0}, {77, 77}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon()
			s, _ := serve(t, d)
			update := func(a *Allow) {
				e := endpoint(t, s, "bot", a)
				d.publish(t, version("bot", 1), e)
				s.Update(e)
			}
			update(c.before)
			clients := map[[2]uint32]*http.Client{}
			for _, who := range append(c.goes, c.stays...) {
				clients[who] = dialAs(t, s.Path(), who[0], who[1])
				ask(t, clients[who], "GET", "/v1/tokens/bot")
			}
			must(t, s.SetSocket(c.socket, accounts()))
			update(c.after)
			for _, who := range c.goes {
				if a, err := try(t.Context(), clients[who], "GET", "/v1/tokens/bot"); err == nil {
					t.Errorf("%v goes on, and is answered %d", who, a.code)
				}
			}
			for _, who := range c.stays {
				wantAnswer(t, ask(t, clients[who], "GET", "/v1/tokens/bot"), 200, "t1.bot-1.")
			}
		})
	}
}

// A file that stays as open as it was must not be what decides.
func TestASocketThatCannotBeNarrowedLetsInNoMoreThanItShould(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	aside := s.Path() + "2"
	must(t, os.Rename(s.Path(), aside))
	narrow := SocketOptions{Mode: 0o600}
	if s.SetSocket(narrow, accounts()) == nil {
		t.Fatal("a socket that is not there was changed")
	}
	for range 2 { // also once nobody waits to be accepted
		if a, err := try(t.Context(), dialAs(t, aside, 77, 77), "GET", "/v1/tokens/bot"); err == nil {
			t.Errorf("somebody is answered %d", a.code)
		}
	}
	wantAnswer(t, ask(t, dialAs(t, aside, 0, 0), "GET", "/v1/tokens/bot"), 200, "t1.bot-1.")
	must(t, os.Rename(aside, s.Path()))
	must(t, s.SetSocket(SocketOptions{Mode: 0o666}, accounts())) // as it was
	wantAnswer(t, ask(t, dialAs(t, s.Path(), 77, 77), "GET", "/v1/tokens/bot"), 200, "t1.bot-1.")
}

func TestOneUserCannotKeepOthersOut(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	var l logs
	s := newServer(t, d, ServerOptions{Socket: SocketOptions{Mode: 0o666}, Log: l.logger(), MaxConns: 40, MaxConnsPerUser: 20})
	e := endpoint(t, s, "bot", nil)
	d.publish(t, version("bot", 1), e)
	s.Update(e)
	must(t, s.Listen())
	var conns []net.Conn
	asUser(t, 1234, 1234, nil, func() {
		for range 100 {
			c, err := net.Dial("unix", s.Path())
			if err != nil {
				t.Error(err)
				return
			}
			conns = append(conns, c)
		}
	})
	// The last one was refused when the honest user is answered.
	wantAnswer(t, get(t, s, "/v1/tokens/bot"), 200, "t1.bot-1.")
	if got := s.server.Counts().Open; got > 21 {
		t.Errorf("%d connections are open, want 20 of one user", got)
	}
	if log := l.String(); strings.Count(log, "refused connections") != 1 || !strings.Contains(log, "uid=1234") {
		t.Errorf("the log says %q", log)
	}
	for _, c := range conns[20:] {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a connection over the limit: %v, want its end", err)
		}
	}
	for _, c := range conns {
		c.Close()
	}
	until(t, func() bool { return s.server.Counts().Open <= 1 })
	wantAnswer(t, ask(t, dialAs(t, s.Path(), 1234, 1234), "GET", "/v1/tokens/bot"), 200, "t1.bot-1.")
}

func TestAFileGivenToAnotherUserIsKnownAgain(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	must(t, os.Chmod(dir, 0o777))
	f := newTestFile(t, FileOptions{Path: filepath.Join(dir, "token"), Owner: "grafana"})
	must(t, f.Publish(t.Context(), version("bot", 1)))
	holds := func(v refresher.Version) (err error) {
		asUser(t, 500, 500, nil, func() { err = f.Holds(t.Context(), v) })
		return err
	}
	// What root wrote, a daemon without root's power to read everything sees.
	f.wrote, f.wroteETag = nil, ""
	if holds(version("bot", 1)) == nil {
		t.Error("a file that cannot be read and that nobody wrote is held")
	}
	st, err := os.Lstat(f.Path())
	must(t, err)
	f.wrote, f.wroteETag = st, version("bot", 1).ETag()
	must(t, holds(version("bot", 1)))
	if holds(version("bot", 2)) == nil {
		t.Error("another version is held")
	}
	must(t, os.Chmod(f.Path(), 0o400))
	if holds(version("bot", 1)) == nil {
		t.Error("a changed file is held")
	}
}

func TestAGroupThatWeCannotGiveIsFoundBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	must(t, os.Chown(dir, 1234, 1234))
	s := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: path}})
	next := newServer(t, newDaemon(), ServerOptions{Socket: SocketOptions{Path: path, Group: "4"}})
	e := endpoint(t, next, "bot", nil)
	checks := map[string]error{}
	asUser(t, 1234, 1234, nil, func() {
		checks["check"] = e.Check(t.Context())
		if err := s.Listen(); err != nil {
			checks["listen"] = err
		}
		checks["check beside the daemon"] = e.Check(t.Context())
		checks["try"] = s.TrySocket(SocketOptions{Group: "4"}, accounts())
		checks["set"] = s.SetSocket(SocketOptions{Group: "4"}, accounts())
	})
	for call, err := range checks {
		if err == nil || !strings.Contains(err.Error(), path+": give it to its owner and group: operation not permitted") {
			t.Errorf("%s: %v", call, err)
		}
	}
	asUser(t, 1234, 1234, []uint32{4}, func() {
		must(t, s.TrySocket(SocketOptions{Group: "4"}, accounts()))
		if st, err := os.Lstat(path); err != nil || st.Sys().(*syscall.Stat_t).Gid != 1234 {
			t.Errorf("trying changed it: %v, %v", st, err)
		}
		must(t, s.SetSocket(SocketOptions{Group: "4"}, accounts()))
	})
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("beside the socket there is %v, %v", files, err)
	}
}
