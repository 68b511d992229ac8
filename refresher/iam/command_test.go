package iam

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

func shell(script string, args ...string) CommandOptions {
	return CommandOptions{Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...)}
}

func TestOutputOfCommandIsReadInEveryFormThatToolsPrint(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := newCloud(t, Config{Clock: func() time.Time { return now }})
	for name, test := range map[string]struct {
		output   string
		lifetime time.Duration
		want     time.Time
	}{
		"raw":                             {output: secret + "\n"},
		"raw without a line end":          {output: secret},
		"raw with lifetime":               {output: secret, lifetime: time.Hour, want: now.Add(time.Hour)},
		"as yc prints":                    {output: `{"iam_token":"` + secret + `","expires_at":"2026-05-01T20:00:00.123456789Z"}`, want: time.Date(2026, 5, 1, 20, 0, 0, 123456789, time.UTC)},
		"as the REST API answers":         {output: "\n {\"iamToken\":\"" + secret + "\",\n\"expiresAt\":\"2026-05-01T22:00:00+02:00\"}\n", want: time.Date(2026, 5, 1, 20, 0, 0, 0, time.UTC)},
		"as OAuth servers answer":         {output: `{"access_token":"` + secret + `","expires_in":60,"token_type":"Bearer"}`, want: now.Add(time.Minute)},
		"JSON without an expiry":          {output: `{"iam_token":"` + secret + `"}`},
		"its own expiry wins":             {output: `{"iam_token":"` + secret + `","expires_at":"2026-05-01T20:00:00Z"}`, lifetime: time.Hour, want: now.Add(8 * time.Hour)},
		"lifetime fills the missing end":  {output: `{"iam_token":"` + secret + `"}`, lifetime: time.Hour, want: now.Add(time.Hour)},
		"the line end inside JSON counts": {output: `{"iam_token":"` + secret + `\n"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := shell(`printf %s "$1"`, test.output)
			o.Lifetime = test.lifetime
			m, err := source(t, c, o).Mint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Value.Reveal() != secret || !m.ExpiresAt.Equal(test.want) || m.Type != refresher.TypeIAM {
				t.Errorf("%d bytes, expires at %s, want %s", m.Value.Len(), m.ExpiresAt, test.want)
			}
		})
	}
}

func TestCommandThatGivesNoTokenSaysWhy(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	notExecutable := writeFile(t, "#!/bin/sh\n")
	for name, test := range map[string]struct {
		options CommandOptions
		want    []string
	}{
		"fails":                 {shell(`echo one >&2; echo "rpc error: no login for $1 today" >&2; exit 3`, secret), []string{"exit code 3", "no login for [redacted] today", "run it by hand"}},
		"fails with a token":    {shell(`echo odd-secret-recognisable; echo "it is odd-secret-recognisable" >&2; exit 1`), []string{"exit code 1", `"it is [redacted]"`}},
		"says too much":         {shell(`i=0; while [ $i -lt 3000 ]; do printf 'word '; i=$((i+1)); done >&2; exit 1`), []string{"exit code 1", "…"}},
		"is killed":             {shell(`kill -SEGV $$`), []string{"signal 11", "segmentation fault"}},
		"does not exist":        {CommandOptions{Argv: []string{"/nonexistent/yc"}}, []string{"run /nonexistent/yc", "no such program", "full path"}},
		"is not in PATH":        {CommandOptions{Argv: []string{"no-such-program-anywhere"}}, []string{"no such program", "PATH is the daemon's"}},
		"is not executable":     {CommandOptions{Argv: []string{notExecutable}}, []string{"permission denied: this user may not execute it", "check its mode"}},
		"prints nothing":        {shell(`true`), []string{"its output (0 bytes) is empty"}},
		"prints several lines":  {shell(`echo "$1"; echo "$1"`, secret), []string{"has 2 lines"}},
		"prints words":          {shell(`echo "the token is $1"`, secret), []string{"a blank"}},
		"prints control bytes":  {shell(`printf 'a\033[31mb'`), []string{"a control character"}},
		"prints JSON of others": {shell(`echo "{\"token\":\"$1\"}"`, secret), []string{`JSON without "iam_token"`}},
		"prints half of JSON":   {shell(`echo "{\"iam_token\":\"$1"`, secret), []string{"not valid JSON"}},
		"prints a wrong time":   {shell(`echo "{\"iam_token\":\"$1\",\"expires_at\":\"tomorrow\"}"`, secret), []string{"not an RFC 3339 time"}},
		"prints an old token":   {shell(`echo "{\"iam_token\":\"$1\",\"expires_at\":\"2020-01-01T00:00:00Z\"}"`, secret), []string{"the token it gave expired"}},
		"prints 17 KB":          {shell(`printf %17000d 1`), []string{"at most 16384"}},
		"prints for ever":       {shell(`while :; do echo "$1"; done`, secret), []string{"printed more than 65536 bytes"}},
		"hangs":                 {CommandOptions{Argv: []string{"/bin/sh", "-c", "sleep 1000"}, Timeout: 100 * time.Millisecond}, []string{"did not end within 100ms and was killed", "it may wait for a login"}},
		"asks for input":        {shell(`read x && echo got`), []string{"exit code 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failure(t, source(t, c, test.options))
			wantText(t, got, append(test.want, "run ")...)
			if got.Permanent {
				t.Error("permanent")
			}
		})
	}
}

// lifeline is a FIFO that a script keeps open with its descriptor 9: reading it
// ends when the last process that has it is gone.
func lifeline(t *testing.T) (path string, gone func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// A script may be killed before it has come to open it: nobody waits here
	// for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return path, func() {
		t.Helper()
		_ = f.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, f); err != nil {
			t.Errorf("a process is left behind: %v", err)
		}
	}
}

func TestChildrenOfACommandDieWithIt(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	t.Run("at a timeout", func(t *testing.T) {
		t.Parallel()
		path, gone := lifeline(t)
		o := shell(`exec 9>"$1"; sleep 1000 & sleep 1000`, path)
		o.Timeout = 300 * time.Millisecond
		wantText(t, failure(t, source(t, c, o)), "did not end within")
		gone()
	})
	t.Run("when the mint is given up", func(t *testing.T) {
		t.Parallel()
		path, gone := lifeline(t)
		ready := filepath.Join(t.TempDir(), "ready")
		if err := syscall.Mkfifo(ready, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			_, _ = os.ReadFile(ready) // until the command runs
		}()
		_, err := source(t, c, shell(`exec 9>"$1"; sleep 1000 & echo >"$2"; sleep 1000`, path, ready)).Mint(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		gone()
	})
	t.Run("when it fails", func(t *testing.T) {
		t.Parallel()
		path, gone := lifeline(t)
		wantText(t, failure(t, source(t, c, shell(`exec 9>"$1"; sleep 1000 >/dev/null 2>&1 & exit 1`, path))), "exit code 1")
		gone()
	})
	t.Run("and do not hold up its output", func(t *testing.T) {
		t.Parallel()
		path, gone := lifeline(t)
		m, err := source(t, c, shell(`exec 9>"$1"; sleep 1000 & echo "$2"`, path, secret)).Mint(t.Context())
		if err != nil || m.Value.Reveal() != secret {
			t.Errorf("%d bytes, %v", m.Value.Len(), err)
		}
		gone()
	})
}

func TestACommandIsDoneInTimeThoughItsOutputIsHeldForLonger(t *testing.T) {
	t.Parallel()
	path, gone := lifeline(t)
	o := shell(`exec 9>"$1"; sleep 1000 & echo "$2"`, path, secret)
	o.Timeout = pipeDelay * 9 / 10
	m, err := source(t, newCloud(t, Config{}), o).Mint(t.Context())
	if err != nil || m.Value.Reveal() != secret {
		t.Errorf("%d bytes, %v", m.Value.Len(), err)
	}
	gone()
}

func TestCommandEndsBeforeItsMintSoThatTheErrorNamesIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := source(t, newCloud(t, Config{}), CommandOptions{Argv: []string{"sleep", "1000"}}).Mint(ctx)
	if err == nil || ctx.Err() != nil {
		t.Fatalf("%v, %v", err, ctx.Err())
	}
	wantText(t, err, "run sleep: it did not end within")
}

func TestChildrenDoNotGetWhatTheServiceManagerToldUs(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"} {
		t.Setenv(name, "set")
	}
	t.Setenv("YC_PROFILE", "kept")
	o := shell(`printf %s "kept=$YC_PROFILE-${NOTIFY_SOCKET-}${LISTEN_FDS-}${LISTEN_PID-}${LISTEN_FDNAMES-}${WATCHDOG_USEC-}${WATCHDOG_PID-}${CREDENTIALS_DIRECTORY-}"`)
	m, err := source(t, newCloud(t, Config{}), o).Mint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Value.Reveal(); got != "kept=kept-" {
		t.Errorf("the child saw %q", got)
	}
}

func TestIdentityOfACommandIsItsCommandLine(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	identity := func(o CommandOptions) string { return source(t, c, o).Identity() }
	for want, o := range map[string]CommandOptions{
		`command yc iam create-token`:     {Argv: []string{"yc", "iam", "create-token"}},
		`command sh -c "echo 'a b'" "" x`: {Argv: []string{"sh", "-c", "echo 'a b'", "", "x"}},
		`command yc (lifetime 1h0m0s)`:    {Argv: []string{"yc"}, Lifetime: time.Hour, Timeout: time.Second},
	} {
		if got := identity(o); got != want {
			t.Errorf("identity %s, want %s", got, want)
		}
	}
	one, two := identity(CommandOptions{Argv: []string{"yc", secret}}), identity(CommandOptions{Argv: []string{"yc", secret + "x"}})
	if one == two || strings.Contains(one, "recognisable") {
		t.Errorf("%q and %q", one, two)
	}
}
