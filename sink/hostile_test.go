package sink

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/sink/turns"
)

// overConn is a client that has this connection and no other. [http.Transport]
// would give it up where its own word that a request was written comes 50 ms
// after the answer, as it may on a busy machine.
func overConn(c net.Conn) *http.Client {
	return &http.Client{Transport: &oneConn{c, bufio.NewReader(c)}}
}

type oneConn struct {
	net.Conn
	r *bufio.Reader
}

func (o *oneConn) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Write(o.Conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(o.r, r)
}

func TestSilentAndSlowClientsAreLetGo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sends string
		after time.Duration
	}{
		"a client that says nothing":         {"", turns.RequestTimeout},
		"half a header":                      {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nX-Slow: ", turns.RequestTimeout},
		"a body that does not come":          {"POST /v1/tokens/bot/report HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", turns.RequestTimeout},
		"a body that is not asked for":       {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", turns.RequestTimeout},
		"a chunked body that does not end":   {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", turns.RequestTimeout},
		"a wait with a body that never ends": {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nPrefer: wait=60\r\nIf-None-Match: *\r\n\r\n", turns.RequestTimeout},
		"a client that rests":                {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\n", turns.IdleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon()
				s, p, byName := listenOnPipes(t, d, "bot")
				d.publish(t, version("bot", 1), byName["bot"])
				near := p.dial()
				go func() { _, _ = io.WriteString(near, c.sends) }()
				begin := time.Now()
				_, _ = io.Copy(io.Discard, near)
				if took := time.Since(begin); took < c.after || took > c.after+2*time.Second {
					t.Errorf("let go after %v, want %v", took, c.after)
				}
				synctest.Wait()
				if n := s.server.Counts().Open; n != 0 {
					t.Errorf("%d connections are left", n)
				}
				near.Close()
			})
		})
	}
}

func TestWhoSendsAnotherRequestByteByByteIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon()
		_, p, byName := listenOnPipes(t, d, "bot")
		d.publish(t, version("bot", 1), byName["bot"])
		near := p.dial()
		go func() { _, _ = io.WriteString(near, plainGet) }()
		r := bufio.NewReader(near)
		wantAnswers(t, r, 1, 200)
		begin := time.Now()
		go func() {
			for _, piece := range strings.Split(plainGet, "") {
				if _, err := io.WriteString(near, piece); err != nil {
					return
				}
				time.Sleep(turns.RequestTimeout - time.Second)
			}
		}()
		_, _ = io.Copy(io.Discard, r)
		if took := time.Since(begin); took > turns.RequestTimeout+2*time.Second {
			t.Errorf("let go after %v, want %v", took, turns.RequestTimeout)
		}
		near.Close()
		time.Sleep(time.Minute) // until the sender has noticed
	})
}

func TestAClientThatTakesNoAnswersIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon()
		s, p, byName := listenOnPipes(t, d, "bot")
		d.publish(t, version("bot", 1), byName["bot"])
		for _, request := range []string{
			"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\nIf-None-Match: \"abc-1\"\r\n\r\n",
		} {
			near := p.dial()
			_, err := io.WriteString(near, request)
			must(t, err)
			time.Sleep(turns.AnswerTimeout + 61*time.Second) // virtual: nothing is read
			synctest.Wait()
			if n := s.server.Counts().Open; n != 0 {
				t.Errorf("%d connections are left", n)
			}
			near.Close()
		}
	})
}

func TestGarbageIsRefused(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	for name, c := range map[string]struct{ sends, want string }{
		"1 MB of headers":     {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "HTTP/1.1 431 "},
		"20 KB of headers":    {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 21<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		"10 KB of headers":    {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 10<<10) + "\r\n\r\n", "HTTP/1.1 200 "},
		"no HTTP":             {"\x16\x03\x01\x00\xa5\x01\r\n\r\n", "HTTP/1.1 400 "},
		"HTTP/2":              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 404 "},
		"garbage in pipeline": {"GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n", "HTTP/1.1 200 "},
		"CONNECT":             {"CONNECT host:1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		"asterisk":            {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		"half a connection":   {"GET /v1/tokens/bot HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("unix", s.Path())
			must(t, err)
			defer nc.Close()
			go func() {
				_, _ = io.WriteString(nc, c.sends)
				_ = nc.(*net.UnixConn).CloseWrite()
			}()
			line, err := bufio.NewReader(nc).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, c.want) {
				t.Errorf("answer %q, %v; want %q", line, err, c.want)
			}
		})
	}
	until(t, func() bool { return s.server.Counts().Open == 0 })
}

func TestTheEndIsQuickAndClean(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	for range 10 { // silent
		c, err := net.Dial("unix", s.Path())
		must(t, err)
		defer c.Close()
	}
	resting := client(t, s.Path())
	ask(t, resting, "GET", "/v1/tokens/bot")
	until(t, func() bool { return s.server.Counts().Open == 11 })
	begin := time.Now()
	must(t, s.Close(context.Background()))
	if took := time.Since(begin); took > turns.RequestTimeout {
		t.Errorf("the end took %v", took)
	} else {
		t.Logf("the end took %v", took)
	}
	if n := s.server.Counts().Open; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if _, err := try(t.Context(), resting, "GET", "/v1/tokens/bot"); err == nil {
		t.Error("somebody still answers")
	}
}

func TestARequestUnderWayIsAnsweredAtTheEnd(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	reloading, goOn := make(chan struct{}), make(chan struct{})
	d.reload = func() (string, error) {
		close(reloading)
		<-goOn
		return "done", nil
	}
	s, _ := serve(t, d, "bot")
	got := make(chan answer)
	go func() { got <- ask(t, client(t, s.Path()), "POST", "/v1/reload") }()
	<-reloading
	closed := make(chan error)
	go func() { closed <- s.Close(context.Background()) }()
	until(t, func() bool {
		_, err := net.Dial("unix", s.Path())
		return err != nil
	})
	close(goOn)
	wantAnswer(t, <-got, 200, "done")
	must(t, <-closed)
}

func TestAnEndThatTakesTooLongIsCut(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	reloading, goOn := make(chan struct{}), make(chan struct{})
	d.reload = func() (string, error) {
		close(reloading)
		<-goOn
		return "", nil
	}
	s, _ := serve(t, d, "bot")
	cut := make(chan error)
	go func() {
		_, err := try(context.Background(), client(t, s.Path()), "POST", "/v1/reload")
		cut <- err
	}()
	<-reloading
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, s.Close(ctx), "context canceled")
	if err := <-cut; err == nil {
		t.Error("the request was answered")
	}
	close(goOn)
}
