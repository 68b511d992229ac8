package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
)

func TestOnlyTimeIsNoChangeInAPipe(t *testing.T) {
	t.Parallel()
	doc := func(change func(*status.Token)) status.Document {
		token := status.Token{Name: "bot", State: refresher.Fresh, Version: 3, Sinks: []status.Sink{{ID: "file:/t", Version: 3, Current: true}}}
		change(&token)
		return status.Document{Tokens: []status.Token{token}}
	}
	left, at := int64(7), time.Unix(1, 0)
	base := changeable(doc(func(t *status.Token) { t.NextRefresh, t.ExpiresAt = new(time.Unix(9, 0)), new(time.Unix(9, 0)) }), nil)
	same := doc(func(t *status.Token) {
		t.ExpiresIn, t.ExpiresAt, t.NextRefresh, t.VerifiedAt = &left, &at, &at, &at
		t.Sinks[0].Reads = map[string]uint64{"ok": 9}
	})
	same.At = at
	if changeable(same, nil) != base {
		t.Error("time alone is a change")
	}
	for name, change := range map[string]func(*status.Token){
		"a version":        func(t *status.Token) { t.Version = 4 },
		"a state":          func(t *status.Token) { t.State = refresher.Revoked },
		"a plan":           func(t *status.Token) { t.NextRefresh = nil },
		"a failure":        func(t *status.Token) { t.Failures, t.LastFailure = 1, "refused" },
		"a sink's trouble": func(t *status.Token) { t.Sinks[0].Current = false },
	} {
		planned := func(t *status.Token) {
			t.NextRefresh, t.ExpiresAt = &at, &at
			change(t)
		}
		if changeable(doc(planned), nil) == base {
			t.Errorf("%s is no change", name)
		}
	}
	if changeable(same, []string{"the daemon does not answer"}) == base {
		t.Error("a daemon that is gone is no change")
	}
}

func TestPipeGetsATableForEachChangeAndNoOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	a := testApp(t, nil)
	a.stdout, a.stderr = &answers{file: out}, out
	v := a.newView(false)
	for i, version := range []uint64{1, 1, 2, 2, 2} {
		doc := status.Document{At: time.Unix(int64(i), 0), Tokens: []status.Token{{Name: "bot", State: refresher.Fresh, Version: version}}}
		if err := v.draw(doc, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := v.draw(status.Document{}, []string{"the daemon does not answer"}, false); err != nil {
			t.Fatal(err)
		}
	}
	v.close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "NAME "); n != 2 {
		t.Errorf("%d tables:\n%s", n, text)
	}
	if n := strings.Count(string(text), "does not answer"); n != 1 {
		t.Errorf("said %d times that there is no daemon:\n%s", n, text)
	}
}

func TestTableHasNoControlCharactersInAPipe(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := testApp(t, nil)
	doc := status.Document{Tokens: []status.Token{{Name: "bot", State: refresher.Revoked, LastFailure: "x", Failures: 1}}}
	if err := a.show(&out, doc, false, screen{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	if err := a.show(&out, doc, false, screen{terminal: true, color: true, width: 100}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[31mrevoked") {
		t.Errorf("%q", out.String())
	}
}

func TestStatusWatchEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	path := socketOf(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"tokens":[{"name":"bot","state":"fresh"}]}`)
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "status", "--watch", "--socket", path)
	cmd.Env, cmd.Stdout = []string{"GORACE=atexit_sleep_ms=0"}, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || !strings.HasPrefix(line, "NAME ") {
		t.Errorf("it begins with %q, %v", line, err)
	}
	r.Close() // and nothing changes any more
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
