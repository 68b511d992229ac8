package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

var killsFlag = flag.Int("kills", 50, "how often a daemon is killed at a random moment")

// ledger is what readers have been given.
type ledger struct {
	*scene
	mu      sync.Mutex
	values  map[string]string // by lineage and number
	highest map[string]uint64 // by lineage
}

// note takes down what a reader saw. It must be whole, and what others saw
// under the same number; number 0 is of a reader who is not told.
func (l *ledger) note(who string, v served) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch of := fmt.Sprint(v.Lineage, "-", v.Version); {
	case v.Value == "" || v.Lineage == "" || v.Version == 0:
		return fmt.Errorf("%s has half a version: %s, %d bytes", who, of, len(v.Value))
	case l.values[of] != "" && l.values[of] != v.Value:
		return fmt.Errorf("%s has another value as %s than was seen before", who, of)
	default:
		l.values[of] = v.Value
		l.highest[v.Lineage] = max(l.highest[v.Lineage], v.Version)
	}
	return nil
}

// fromFile reads the file that has everything; nil for no file.
func (l *ledger) fromFile() *served {
	l.Helper()
	text, err := os.ReadFile(l.path("bot.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l.try(err)
	var v served
	if err := json.Unmarshal(text, &v); err != nil {
		l.Fatalf("the file holds %d bytes that are no JSON: %v", len(text), err)
	}
	l.try(l.note("the file", v))
	return &v
}

// firstAnswer connects until somebody listens, and wants a value at once.
func (l *ledger) firstAnswer() served {
	l.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(time.Millisecond) {
		req, err := http.NewRequestWithContext(l.Context(), http.MethodGet, "http://localhost/v1/tokens/bot", nil)
		l.try(err)
		req.Header.Set("Accept", "application/json")
		resp, err := l.socket.Do(req)
		if err != nil {
			continue // nobody listens yet
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		l.try(err)
		var v served
		if err := json.Unmarshal(body, &v); err != nil || resp.StatusCode != http.StatusOK {
			l.Fatalf("the first answer after a restart is %d: %s", resp.StatusCode, v.Reason)
		}
		l.try(l.note("the socket", v))
		return v
	}
	l.Fatal("nobody listens after a restart")
	return served{}
}

// busily refreshes and reads until ctx ends or the daemon does. It tells of its
// first refresh.
func (l *ledger) busily(ctx context.Context, first chan<- struct{}) (refreshes int, err error) {
	defer close(first)
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/tokens/bot/refresh", nil)
		resp, err := l.socket.Do(req)
		if err != nil {
			return refreshes, nil
		}
		resp.Body.Close()
		if refreshes++; refreshes == 1 {
			first <- struct{}{}
		}
		req, _ = http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/tokens/bot", nil)
		req.Header.Set("Accept", "application/json")
		resp, err = l.socket.Do(req)
		if err != nil {
			return refreshes, nil
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return refreshes, nil
		}
		var v served
		if err := json.Unmarshal(body, &v); err != nil {
			return refreshes, err
		}
		if err := l.note("the socket", v); err != nil {
			return refreshes, err
		}
	}
	return refreshes, nil
}

func TestDaemonThatIsKilledServesAtOnceAndNeverLess(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.released()
		l := &ledger{scene: s, values: map[string]string{}, highest: map[string]uint64{}}
		s.configure("bot", plot{sinks: `      - file: {path: $S/bot.json, format: json}
      - file: {path: $S/bot.token}
      - env_file: {path: $S/bot.env, variables: {YC_TOKEN: "{{.Value}}"}}
      - socket: {path: $S/s}
`}, false)
		config, err := os.ReadFile(s.path("bot.yaml"))
		s.try(err)
		s.write("bot.yaml", strings.Replace(string(config), "level: debug", "level: info", 1)+"\nlimits: {probes_per_second: 0}\n")
		s.daemon = s.background("run", "run", "--config", "bot.yaml")
		s.ready()
		lineage, refreshes := s.read().Lineage, 0
		var said strings.Builder
		for kill := range *killsFlag {
			ctx, cancel := context.WithCancel(s.Context())
			type done struct {
				n   int
				err error
			}
			ended, first := make(chan done, 1), make(chan struct{}, 1)
			go func() {
				n, err := l.busily(ctx, first)
				ended <- done{n, err}
			}()
			if kill%3 == 0 { // the others may be killed before they are through with one
				<-first
			}
			<-time.After(rand.N(80 * time.Millisecond))
			s.daemon.kill()
			cancel()
			d := <-ended
			s.try(d.err)
			refreshes += d.n
			said.WriteString(s.daemon.log.text())

			before := l.highest[lineage]
			if v := l.fromFile(); v == nil || v.Lineage != lineage {
				s.Fatalf("the file is of another lineage: %v", v)
			}
			before = max(before, l.highest[lineage])
			s.daemon = s.background("run", "run", "--config", "bot.yaml")
			if v := l.firstAnswer(); v.Lineage != lineage || v.Version < before {
				s.Fatalf("version %d of %s is served after version %d of %s", v.Version, v.Lineage, before, lineage)
			}
		}
		s.ready()
		s.settles()
		v := l.fromFile()
		if got := s.read(); got.Version != v.Version || got.Value != v.Value || s.file() != v.Value {
			s.Errorf("in the end the socket has version %d and the file %d", got.Version, v.Version)
		}
		issued := s.cloud.Issued()
		for of, value := range l.values {
			if !slices.Contains(issued, value) {
				s.Errorf("%s is a value that was never issued", of)
			}
		}
		s.say(said.String())
		t.Logf("%d kills, %d refreshes, version %d", *killsFlag, refreshes, v.Version)
		if refreshes < *killsFlag/3 {
			s.Error("hardly anything was going on when the daemon was killed")
		}
		s.ends()
	})
}
