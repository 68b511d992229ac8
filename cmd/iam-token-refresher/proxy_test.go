package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

// proxied runs a daemon with a proxy on a socket, and returns its client.
func (s *scene) proxied() *http.Client {
	s.Helper()
	s.configure("bot", plot{}, false)
	text, err := os.ReadFile(s.path("bot.yaml"))
	s.try(err)
	s.write("bot.yaml", strings.Replace(string(text), "    sinks:\n", "    sinks:\n      - proxy: {listen: "+s.path("p")+"}\n", 1))
	s.daemon = s.background("run", "run", "--config", "bot.yaml")
	s.ready()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.path("p"))
		},
		MaxIdleConnsPerHost: 16, DisableCompression: true,
	}
	s.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (s *scene) revoke(value string) {
	s.Helper()
	if !s.cloud.Revoke(value) {
		s.Fatal("the cloud does not know the value to revoke")
	}
}

// TestClientsOfTheProxySeeNothingOfFiveRevocations: the clients keep one
// connection each, and hold no token.
func TestClientsOfTheProxySeeNothingOfFiveRevocations(t *testing.T) {
	t.Parallel()
	const requests, workers, revocations = 10_000, 8, 5
	play(t, emulator.Options{}, func(s *scene) {
		c := s.proxied()
		var done atomic.Int64
		codes := make([]map[int]int, workers)
		var all sync.WaitGroup
		for i := range workers {
			codes[i] = map[int]int{}
			all.Go(func() {
				for done.Add(1) <= requests {
					resp, err := c.Get("http://localhost/v3/issues/TEST-1")
					if err != nil {
						t.Error(err)
						return
					}
					_, err = io.Copy(io.Discard, resp.Body)
					if err = errors.Join(err, resp.Body.Close()); err != nil {
						t.Error(err)
					}
					codes[i][resp.StatusCode]++
				}
			})
		}
		for n := range uint64(revocations) {
			before := s.read()
			s.revoke(before.Value)
			s.loggedTimes(`"msg":"published".*"version":`+strconv.FormatUint(n+2, 10)+`,`, 1)
		}
		if done.Load() >= requests {
			t.Error("the revocations came after the requests")
		}
		all.Wait()
		sum := 0
		for _, by := range codes {
			for code, n := range by {
				sum += n
				if code != http.StatusOK {
					t.Errorf("%d answers with %d", n, code)
				}
			}
		}
		if sum != requests {
			t.Errorf("%d answers", sum)
		}
		if st := s.status(); st.Version != revocations+1 {
			t.Errorf("version %d after %d revocations", st.Version, revocations)
		}
		s.measures(fmt.Sprintf(`iam_token_reads_total{result="ok",sink="proxy:%s",token="bot"} %d`, s.path("p"), requests))
		s.ends()
	})
}

// TestTheProxyKeepsNoBodies: large uploads and a slow reader pass through a
// daemon that stays small. It is the program without the race detector.
func TestTheProxyKeepsNoBodies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("memory is read from /proc")
	}
	size := int64(100 << 20)
	if text := os.Getenv("PROXY_TEST_BYTES"); text != "" {
		var err error
		if size, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	play(t, emulator.Options{}, func(s *scene) {
		s.released()
		c := s.proxied()
		anonymous := func() int {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.daemon.cmd.Process.Pid))
			s.try(err)
			m := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(b)
			n, err := strconv.Atoi(string(m[1]))
			s.try(err)
			return n
		}
		most := anonymous()
		look := func() { most = max(most, anonymous()) }

		slow, err := c.Get(fmt.Sprintf("http://localhost/v3/issues/T-1/attachments/1/zeros?size=%d", size))
		s.try(err)
		defer slow.Body.Close()
		_, err = io.CopyN(io.Discard, slow.Body, 1<<20) // and it reads no more for now
		s.try(err)

		upload, err := c.Post("http://localhost/v3/issues/T-1/attachments/", "application/octet-stream",
			&watched{left: size, look: look})
		s.try(err)
		defer upload.Body.Close()
		var got struct{ Size int64 }
		s.try(json.NewDecoder(upload.Body).Decode(&got))
		if upload.StatusCode != http.StatusCreated || got.Size != size {
			t.Errorf("%d, %d bytes arrived", upload.StatusCode, got.Size)
		}
		n, err := io.Copy(sipped{look}, slow.Body)
		if err != nil || n != size-1<<20 {
			t.Errorf("the slow reader got %d bytes, %v", n, err)
		}
		t.Logf("at most %d KB anonymous memory", most)
		if most > 40<<10 {
			t.Errorf("it took %d KB of anonymous memory", most)
		}
		s.ends()
	})
}

// watched is a body of so many bytes, during which somebody looks.
type watched struct {
	left, since int64
	look        func()
}

func (w *watched) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), w.left)
	if w.left, w.since = w.left-n, w.since+n; w.since > 4<<20 {
		w.since = 0
		w.look()
	}
	return int(n), nil
}

// sipped takes what it is given in small parts.
type sipped struct{ look func() }

func (s sipped) Write(p []byte) (int, error) { return len(p), nil }

func (s sipped) ReadFrom(r io.Reader) (n int64, err error) {
	p := make([]byte, 256<<10)
	for i := 0; ; i++ {
		m, err := r.Read(p)
		n += int64(m)
		if i%64 == 0 {
			s.look()
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// TestAReloadCutsNoDownload: the listener is handed over.
func TestAReloadCutsNoDownload(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		c := s.proxied()
		r, w := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v3/echo", r)
		s.try(err)
		resp, err := c.Do(req)
		s.try(err)
		defer resp.Body.Close()
		exchange := func(text string) {
			s.Helper()
			_, err := io.WriteString(w, text)
			s.try(err)
			got := make([]byte, len(text))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != text {
				s.Fatalf("%q, %v", got, err)
			}
		}
		exchange("data: before\n\n")
		text, err := os.ReadFile(s.path("bot.yaml"))
		s.try(err)
		s.write("bot.yaml", strings.Replace(string(text), "proxy: {listen: "+s.path("p")+"}", "proxy: {listen: "+s.path("p")+`, mode: "0660", allow: {users: ["7"]}}`, 1))
		s.logged(`"msg":"configuration changed"`)
		exchange("data: after\n\n")
		if info, err := os.Stat(s.path("p")); err != nil || info.Mode().Perm() != 0o660 {
			s.Errorf("the socket is %v, %v", info.Mode(), err)
		}
		s.write("bot.yaml", strings.Replace(string(text), "      - proxy: {listen: "+s.path("p")+"}\n", "", 1))
		s.loggedTimes(`"msg":"configuration changed"`, 2)
		if _, err := os.Stat(s.path("p")); !errors.Is(err, os.ErrNotExist) {
			s.Errorf("the socket of a proxy that was removed: %v", err)
		}
		s.ends()
	})
}

// TestCurlThroughTheProxy is the example of the README.
func TestCurlThroughTheProxy(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	play(t, emulator.Options{}, func(s *scene) {
		s.proxied()
		curl := func(args ...string) string {
			s.Helper()
			cmd := exec.CommandContext(t.Context(), "curl", append([]string{"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--unix-socket", s.path("p")}, args...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				s.Errorf("curl %v: %v: %s%s", args, err, out, stderr.String())
			}
			return string(out)
		}
		s.matches("curl prints", curl("http://localhost/v3/myself"), `"login":"bot"`)
		// Several requests over one connection, with a revocation in between.
		s.revoke(s.read().Value)
		s.matches("curl prints", curl("http://localhost/v3/issues/TEST-[1-3]"), `TEST-1.*TEST-2.*TEST-3`)
		// 1.5 MB: curl asks first (Expect: 100-continue).
		s.write("file", strings.Repeat("x", 1_500_000))
		s.matches("curl prints", curl("--data-binary", "@"+s.path("file"), "http://localhost/v3/issues/TEST-1/attachments/"), `"size":1500000`)
		s.ends()
	})
}
