package sink

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

// whole tells whether s is one complete published value, and which.
func whole(s string) (n uint64, err error) {
	rest, ok := strings.CutPrefix(s, "t1.bot-")
	number, _, _ := strings.Cut(rest, ".")
	n, perr := strconv.ParseUint(number, 10, 64)
	if !ok || perr != nil || s != secret("bot", n).Reveal() {
		return 0, fmt.Errorf("read %d bytes that were never published", len(s))
	}
	return n, nil
}

// reader returns a function that reads a value in the way of kind.
func reader(kind, path string) func() (string, error) {
	switch kind {
	case "socket":
		c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
		return func() (string, error) {
			a, err := try(context.Background(), c, http.MethodGet, "/v1/tokens/bot")
			if err == nil && a.code != http.StatusOK {
				err = fmt.Errorf("answer %d", a.code)
			}
			return a.body, err
		}
	case "env":
		return func() (string, error) {
			b, err := os.ReadFile(path)
			line, _ := strings.CutPrefix(string(b), "TOKEN=")
			return strings.TrimSuffix(line, "\n"), err
		}
	case "set": // files that match are those below one resolution of ..data
		return func() (value string, err error) {
			root, err := os.OpenRoot(filepath.Join(path, "..data"))
			if err != nil {
				return "", err
			}
			defer root.Close()
			var text [3][]byte
			for i, name := range []string{"token", "expires_at", "token.json"} {
				if text[i], err = root.ReadFile(name); err != nil {
					return "", err
				}
			}
			var doc struct {
				Value     string
				ExpiresAt string `json:"expires_at"`
			}
			if err := json.Unmarshal(text[2], &doc); err != nil {
				return "", err
			}
			if doc.Value != string(text[0]) || doc.ExpiresAt != string(text[1]) {
				return "", errors.New("the files of a set do not match")
			}
			return doc.Value, nil
		}
	case "json":
		return func() (string, error) {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			var doc struct{ Value string }
			return doc.Value, json.Unmarshal(b, &doc)
		}
	}
	return func() (string, error) {
		b, err := os.ReadFile(path)
		return string(b), err
	}
}

// readerProcess reads until its standard input ends and prints how often.
func readerProcess(kind, path string) int {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	read, last := reader(kind, path), uint64(0)
	for n := 0; ; n++ {
		if n == 1 {
			fmt.Println("reading")
		}
		select {
		case <-done:
			fmt.Println(n, last)
			return 0
		default:
		}
		s, err := read()
		if kind == "set" && errors.Is(err, fs.ErrNotExist) {
			continue // there were two newer ones since ..data was resolved
		}
		var got uint64
		if err == nil {
			got, err = whole(s)
		}
		if err == nil && got < last {
			err = fmt.Errorf("version %d came after %d", got, last)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		last = got
	}
}

func TestReadersInOtherProcessesNeverSeeHalfAToken(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	d := newDaemon()
	s, byName := serve(t, d, "bot")
	file := newTestFile(t, FileOptions{Path: filepath.Join(dir, "raw")})
	doc := newTestFile(t, FileOptions{Path: filepath.Join(dir, "json"), Format: "json"})
	env, err := NewEnvFile(EnvFileOptions{Path: filepath.Join(dir, "env"), Variables: map[string]string{"TOKEN": "{{.Value}}"}}, "bpfem0", accounts())
	must(t, err)
	set, err := NewSet(SetOptions{Path: filepath.Join(dir, "set")}, accounts())
	must(t, err)
	sinks := []refresher.Sink{file, doc, env, set, byName["bot"]}
	d.publish(t, version("bot", 1), sinks...)

	self, err := os.Executable()
	must(t, err)
	type process struct {
		cmd    *exec.Cmd
		stdin  io.Closer
		stdout *bufio.Reader
	}
	started := map[string]process{}
	for kind, path := range map[string]string{"raw": file.Path(), "json": doc.Path(), "env": env.Path(), "set": set.path, "socket": s.Path()} {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "SINK_TEST_READER="+kind, "SINK_TEST_PATH="+path)
		stdin, err := cmd.StdinPipe()
		must(t, err)
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		p := process{cmd, stdin, bufio.NewReader(stdout)}
		line, err := p.stdout.ReadString('\n')
		if err != nil || line != "reading\n" {
			t.Fatalf("%s: %s%v", kind, line, err)
		}
		started[kind] = p
	}
	const last = 60
	for n := uint64(2); n <= last; n++ {
		v := version("bot", n)
		v.ExpiresAt = v.ExpiresAt.Add(time.Duration(n) * time.Second)
		d.publish(t, v, sinks...)
	}
	for kind, p := range started {
		p.stdin.Close()
		line, _ := p.stdout.ReadString('\n')
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%s: %s%v", kind, line, err)
			continue
		}
		t.Logf("%s: reads and last version: %s", kind, line)
	}
}
