package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

// execute runs the command with args until it ends.
func execute(ctx context.Context, stdout io.Writer, args ...string) (stderr string, err error) {
	cmd := newCommand()
	var log bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(&log)
	err = cmd.ExecuteContext(ctx)
	return log.String(), err
}

// firstLine closes when the first line was written.
type firstLine struct {
	bytes.Buffer
	came chan struct{}
}

func (f *firstLine) Write(b []byte) (int, error) {
	defer close(f.came)
	return f.Buffer.Write(b)
}

func TestMistakesOnTheCommandLineExitWith78(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for want, args := range map[string][]string{
		"--dir is missing":    nil,
		"unknown flag: --dri": {"--dri", "x"},
		`"run" is not a flag`: {"run"},
		"invalid argument":    {"--dir", dir, "--token-lifetime", "soon"},
		"want a share":        {"--dir", dir, "--reissue-until", "190%"},
		"between 1s and 12h":  {"--dir", dir, "--token-lifetime", "13h"},
		"token format":        {"--dir", dir, "--token-format", "t2"},
		"want debug":          {"--dir", dir, "--log", "loud"},
		"not a directory":     {"--dir", file},
		"no such file":        {"--dir", dir, "--jwks", filepath.Join(dir, "none")},
		"listen address":      {"--dir", dir, "--listen", "127.0.0.1:70000"},
	} {
		_, err := execute(t.Context(), io.Discard, args...)
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want exit code 78 and %q", args, err, want)
		}
	}
	if exitCode(errors.New("listen: address in use")) != exitFailed {
		t.Error("any other failure is not exit code 1")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files were written: %v", left)
	}
}

func TestHelpHasAnExampleAndEveryOption(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := execute(t.Context(), &out, "--help"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"run --config /tmp/cloud/config.yaml", "--dir", "--listen", "--token-lifetime", "--reissue-until", "--accounts", "--jwks",
		"--clock-offset", "--token-format", "--log",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the help", want)
		}
	}
}

func TestItRunsUntilItIsToldToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &firstLine{came: make(chan struct{})}
	type result struct {
		log string
		err error
	}
	done := make(chan result)
	go func() {
		log, err := execute(ctx, out, "--dir", dir, "--log", "debug", "--reissue-until", "90%", "--accounts", "2")
		done <- result{log, err}
	}()
	select {
	case <-out.came:
	case r := <-done:
		t.Fatalf("it ended: %v", r.err)
	}
	if line := out.String(); strings.Count(line, "\n") != 1 || !strings.Contains(line, "run --config "+filepath.Join(dir, "config-accounts.yaml")) {
		t.Errorf("it says %q", line)
	}
	b, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, address, _ := strings.Cut(string(b), `"metadata": "`)
	address, _, _ = strings.Cut(address, `"`)
	resp, err := http.Get(address + "/computeMetadata/v1/instance/service-accounts/default/token")
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
	cancel()
	r := <-done
	if r.err != nil || !strings.Contains(r.log, "service=metadata method=token") {
		t.Errorf("it ended with %v and logged %q", r.err, r.log)
	}
}

func TestASecondEmulatorInTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	_, err = execute(t.Context(), io.Discard, "--dir", dir)
	if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), "another iam-emulator") {
		t.Errorf("got %v", err)
	}
}

func TestSharesAreReadAsPercentOrFraction(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]share{"90%": 0.9, "0.9": 0.9, "0": 0, "100%": 1, "1": 1} {
		var s share
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "x", "%", "NaN", "-1", "101%", "2"} {
		var s share
		if s.Set(text) == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
