package sink

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/sink/turns"
)

const plainGet = "GET /v1/tokens/bot HTTP/1.1\r\nHost: x\r\n\r\n"

func dialSocket(t testing.TB, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// wantAnswers reads answers with this code.
func wantAnswers(t testing.TB, r *bufio.Reader, n, code int) {
	t.Helper()
	for i := range n {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		if resp.StatusCode != code {
			t.Errorf("answer %d is %d, want %d", i, resp.StatusCode, code)
		}
	}
}

func TestAConnectionBetweenRequestsCostsLittle(t *testing.T) {
	const conns = 1000
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	get(t, s, "/v1/tokens/bot") // what is made once
	before := memory()
	readers := make([]*bufio.Reader, conns)
	for i := range readers {
		c := dialSocket(t, s.Path())
		_, err := io.WriteString(c, plainGet)
		must(t, err)
		readers[i] = bufio.NewReaderSize(c, 16)
		wantAnswers(t, readers[i], 1, 200)
	}
	until(t, func() bool { return s.server.Counts().Resting >= conns })
	each := (memory() - before) / conns
	t.Logf("a connection costs %d bytes, with the test's own end", each)
	if each > 12<<10 { // net/http's hold alone is some 20 KB
		t.Errorf("a connection costs %d bytes, want at most 12 KB", each)
	}
}

func TestRequestsInPiecesAreAllAnswered(t *testing.T) {
	t.Parallel()
	for name, pieces := range map[string][]string{
		"one by one":                     {plainGet, plainGet, plainGet},
		"all at once":                    {plainGet + plainGet + plainGet},
		"with the next one's first byte": {plainGet + "G", plainGet[1:] + "GET", plainGet[3:]},
		"byte by byte":                   strings.Split(plainGet+plainGet+plainGet, ""),
		"with line ends in between":      {plainGet + "\r\n", plainGet, plainGet},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon()
				_, p, byName := listenOnPipes(t, d, "bot")
				d.publish(t, version("bot", 1), byName["bot"])
				near := p.dial()
				defer near.Close()
				go func() {
					for _, piece := range pieces {
						_, _ = io.WriteString(near, piece)
						synctest.Wait() // all that can be done with it is done
					}
				}()
				wantAnswers(t, bufio.NewReader(near), 3, 200)
			})
		})
	}
}

// net/http answers some requests itself, and would wait for their bodies for ever.
func TestARequestWhoseBodyDoesNotComeEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin string
		code  int
	}{
		"to a route":            {"POST /v1/tokens/bot/report HTTP/1.1\r\n", 400},
		"to no route":           {"GET /livez HTTP/1.1\r\n", 404},
		"about the server":      {"OPTIONS * HTTP/1.1\r\n", 404},
		"with a foreign wish":   {"GET /v1/tokens/bot HTTP/1.1\r\nExpect: nonsense\r\n", 417},
		"in another's protocol": {"PRI * HTTP/2.0\r\n", 404},
		"with a broken header":  {"GET /v1/tokens/bot HTTP/1.1\r\nBad Name: x\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDaemon()
				_, p, byName := listenOnPipes(t, d, "bot")
				d.publish(t, version("bot", 1), byName["bot"])
				near := p.dial()
				defer near.Close()
				begin := time.Now()
				go func() { _, _ = io.WriteString(near, c.begin+"Host: x\r\nContent-Length: 100\r\n\r\n") }()
				r := bufio.NewReader(near)
				resp, err := http.ReadResponse(r, nil)
				must(t, err)
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != c.code {
					t.Errorf("answered %d, %v, want %d", resp.StatusCode, err, c.code)
				}
				if _, err := r.ReadByte(); err == nil || time.Since(begin) > turns.RequestTimeout+time.Second {
					t.Errorf("it ended after %v with %v", time.Since(begin), err)
				}
			})
		})
	}
}

func TestAnAnswerMayTakeLongerThanARequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon()
		_, c, _ := servePipes(t, d, "bot")
		d.reload = func() (string, error) { <-time.After(2 * turns.RequestTimeout); return "fine", nil }
		wantAnswer(t, ask(t, c, "POST", "/v1/reload"), 200, "fine")
	})
}

// A crowd of honest readers of one user is answered, every one.
func TestMoreThanThereIsRoomForAreAnsweredInTurn(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	d.publish(t, version("bot", 1), byName["bot"])
	const crowd = turns.Most * 3 / 2
	var all sync.WaitGroup
	for range crowd {
		c := dialSocket(t, s.Path())
		all.Go(func() {
			if _, err := io.WriteString(c, plainGet); err != nil {
				t.Error(err)
				return
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || line != "HTTP/1.1 200 OK\r\n" {
				t.Errorf("answer %q, %v", line, err)
			}
		})
	}
	all.Wait()
	until(t, func() bool { return s.server.Counts().Resting == crowd })
}

func TestWhoSendsSlowlyMakesRoomForOthers(t *testing.T) {
	t.Parallel()
	const body = " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
	for name, slow := range map[string][]string{
		"headers":                   {"GET /v1/tok", plainGet + "GET /v1/tok"},
		"bodies":                    {"POST /v1/tokens/bot/report" + body},
		"bodies that nobody awaits": {"GET /v1/tokens/bot" + body},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon()
			s, byName := serve(t, d, "bot")
			d.publish(t, version("bot", 1), byName["bot"])
			for i := range 3 * turns.Most / 2 {
				c := dialSocket(t, s.Path())
				_, err := io.WriteString(c, slow[i%len(slow)])
				must(t, err)
			}
			until(t, func() bool { begun := s.server.Counts().Turns; return begun == turns.Most })
			begin := time.Now()
			wantAnswer(t, get(t, s, "/v1/tokens/bot"), 200, "t1.bot-1.")
			t.Logf("answered after %v", time.Since(begin))
			if took := time.Since(begin); took > turns.RequestTimeout/2 {
				t.Errorf("it took %v", took)
			}
			if begun := s.server.Counts().Turns; begun > turns.Most {
				t.Errorf("%d turns at once, want at most %d", begun, turns.Most)
			}
		})
	}
}
