package sink

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
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

var readsFlag = flag.Int("reads", 100_000, "how often readers in other processes read while versions change")

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

// tornVersion differs from others in everything that readers are told.
func tornVersion(n uint64) refresher.Version {
	v := version("bot", n)
	v.ExpiresAt = v.ExpiresAt.Add(time.Duration(n) * time.Second)
	v.PublishedAt = v.PublishedAt.Add(time.Duration(n) * time.Second)
	return v
}

// document is a version in JSON, from a file or from the socket.
type document struct {
	Name, Value, Type, Lineage string
	Version                    uint64
	ExpiresAt                  time.Time `json:"expires_at"`
	PublishedAt                time.Time `json:"published_at"`
}

// one tells whether all parts of d are of one version, and returns its value.
func (d document) one() (string, error) {
	n, err := whole(d.Value)
	if err != nil {
		return "", err
	}
	if v := tornVersion(n); d.Version != n || d.Name != v.Token || d.Type != v.Type || d.Lineage != v.Lineage ||
		!d.ExpiresAt.Equal(v.ExpiresAt) || !d.PublishedAt.Equal(v.PublishedAt) {
		return "", fmt.Errorf("version %d comes with parts of another", n)
	}
	return d.Value, nil
}

// reader returns a function that reads a value in the way of kind.
func reader(kind, path string) func() (string, error) {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	fromSocket := func(headers ...string) (a answer, err error) {
		if a, err = try(context.Background(), c, http.MethodGet, "/v1/tokens/bot", headers...); err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("answer %d", a.code)
		}
		return a, err
	}
	switch kind {
	case "socket":
		return func() (string, error) {
			a, err := fromSocket()
			if err != nil {
				return "", err
			}
			if n, err := whole(a.body); err != nil || a.header.Get("Etag") != fmt.Sprintf(`"abc-%d"`, n) {
				return "", fmt.Errorf("version %d comes with the ETag %s: %w", n, a.header.Get("Etag"), err)
			}
			return a.body, nil
		}
	case "document":
		return func() (string, error) {
			a, err := fromSocket("Accept", "application/json")
			if err != nil {
				return "", err
			}
			var doc document
			if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
				return "", err
			}
			if want := fmt.Sprintf(`"abc-%d"`, doc.Version); a.header.Get("Etag") != want {
				return "", fmt.Errorf("version %d comes with the ETag %s", doc.Version, a.header.Get("Etag"))
			}
			return doc.one()
		}
	case "set": // files that match are those below one resolution of ..data
		return func() (string, error) {
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
			var doc document
			if err := json.Unmarshal(text[2], &doc); err != nil {
				return "", err
			}
			end, err := time.Parse(time.RFC3339, string(text[1]))
			if err != nil || doc.Value != string(text[0]) || !doc.ExpiresAt.Equal(end) {
				return "", fmt.Errorf("the files of a set do not match: %w", err)
			}
			return doc.one()
		}
	case "env":
		return func() (string, error) {
			b, err := os.ReadFile(path)
			line, _ := strings.CutPrefix(string(b), "TOKEN=")
			return strings.TrimSuffix(line, "\n"), err
		}
	case "json":
		return func() (string, error) {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			var doc document
			if err := json.Unmarshal(b, &doc); err != nil {
				return "", err
			}
			return doc.one()
		}
	}
	return func() (string, error) {
		b, err := os.ReadFile(path)
		return string(b), err
	}
}

// readerProcess reads as often as it is told, and prints what is wrong.
func readerProcess(kind, path string) int {
	times, err := strconv.Atoi(os.Getenv("SINK_TEST_READS"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	read, last := reader(kind, path), uint64(0)
	for n := range times {
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
			fmt.Printf("read %d: %v\n", n, err)
			return 1
		}
		last = got
	}
	return 0
}

// Versions change every 20 ms meanwhile.
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
	d.publish(t, tornVersion(1), sinks...)

	self, err := os.Executable()
	must(t, err)
	readers := map[string]struct {
		path  string
		share int // in a hundred reads
	}{
		"raw": {file.Path(), 40}, "env": {env.Path(), 38}, "json": {doc.Path(), 12}, "set": {set.path, 2},
		"socket": {s.Path(), 5}, "document": {s.Path(), 3},
	}
	ended := make(chan error)
	for kind, r := range readers {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), "SINK_TEST_READER="+kind, "SINK_TEST_PATH="+r.path, "SINK_TEST_READS="+strconv.Itoa(*readsFlag*r.share/100))
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		go func() {
			said, _ := bufio.NewReader(stdout).ReadString('\n')
			err := cmd.Wait()
			if err != nil {
				err = fmt.Errorf("%s: %s: %w", kind, said, err)
			}
			ended <- err
		}()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	n := uint64(1)
	for left := len(readers); left > 0; {
		select {
		case err := <-ended:
			if left--; err != nil {
				t.Error(err)
			}
		case <-tick.C:
			n++
			d.publish(t, tornVersion(n), sinks...)
		}
	}
	t.Logf("%d reads of %d versions", *readsFlag, n)
	if n < 10 {
		t.Error("hardly anything changed while they read")
	}
}
