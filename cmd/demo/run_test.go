package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs builds the two programs, as `make build` would.
func programs(t *testing.T) options {
	t.Helper()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go to build the programs with")
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", dir, "iam-token-refresher/cmd/iam-token-refresher", "iam-token-refresher/cmd/iam-emulator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the programs cannot be built: %v\n%s", err, out)
	}
	return options{refresher: filepath.Join(dir, "iam-token-refresher"), emulator: filepath.Join(dir, "iam-emulator"), renewals: 1}
}

// interrupted ends the run when a text is shown.
type interrupted struct {
	*lines
	out    *bytes.Buffer
	at     string
	cancel func()
}

func (i *interrupted) frame(v view) {
	i.lines.frame(v)
	if strings.Contains(i.out.String(), i.at) {
		i.cancel()
	}
}

func TestTheWholeDemo(t *testing.T) {
	o := programs(t)
	// Not parallel: these look at the temporary directory, and at each other's times.
	t.Setenv("TMPDIR", t.TempDir())
	nothingLeft := func(t *testing.T) {
		t.Helper()
		left, err := os.ReadDir(os.TempDir())
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	t.Run("ends at once and cleans up when it is interrupted", func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d := &interrupted{newLines(&out), &out, "published: version 1", cancel}
		if code := run(ctx, o, d); code != exitInterrupted || !strings.Contains(out.String(), "Interrupted") {
			t.Errorf("exit code %d:\n%s", code, out.String())
		}
		nothingLeft(t)
	})
	t.Run("fails when the daemon cannot start, and says why", func(t *testing.T) {
		var out bytes.Buffer
		wrong := o
		wrong.refresher = o.emulator // knows no "run"
		if code := run(t.Context(), wrong, newLines(&out)); code != exitFailed || !strings.Contains(out.String(), `"run" is not a flag`) && !strings.Contains(out.String(), "unknown flag") {
			t.Errorf("exit code %d:\n%s", code, out.String())
		}
		nothingLeft(t)
	})
	t.Run("tells the story to its end with no read of an expired token", func(t *testing.T) {
		var out bytes.Buffer
		if code := run(t.Context(), o, newLines(&out)); code != exitDone {
			t.Errorf("exit code %d", code)
		}
		for _, want := range []string{
			"4/5 revocation", "reads of an expired token  0\n", "reads of half a token      0\n", "All as it should be",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing", want)
			}
		}
		if strings.Contains(out.String(), "\x1b") || strings.Contains(out.String(), "t1.") {
			t.Error("there is an escape code or a token in it")
		}
		t.Log(out.String())
		nothingLeft(t)
	})
}
