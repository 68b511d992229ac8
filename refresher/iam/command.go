package iam

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/scrub"
)

// CommandOptions is the source command: a program prints the token, for example
// yc iam create-token --format json for federated and local users.
// https://yandex.cloud/en/docs/iam/operations/iam-token/create-for-federation
type CommandOptions struct {
	Argv     []string      `yaml:"argv" doc:"program and arguments, run without a shell; prints a raw token, or JSON with iam_token and expires_at" check:"required"`
	Timeout  time.Duration `yaml:"timeout" doc:"how long it may run, at most 30s (the default); then it and its children are killed"`
	Lifetime time.Duration `yaml:"lifetime" doc:"how long a token lives, when the program does not say"`
}

// A mint has 30 s; the command ends a little earlier, so that the error says
// that it hangs.
const (
	maxCommandTime = 30 * time.Second
	commandMargin  = time.Second
)

// Validate implements the check of the options.
func (o CommandOptions) Validate() error {
	var errs []error
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		errs = append(errs, missing("argv", `["yc", "iam", "create-token", "--format", "json"]`))
	}
	for _, arg := range o.Argv {
		if strings.ContainsRune(arg, 0) {
			errs = append(errs, &refresher.Invalid{Field: "argv", Problem: "has an argument with a NUL byte"})
			break
		}
	}
	if o.Timeout < 0 || o.Timeout > maxCommandTime {
		errs = append(errs, &refresher.Invalid{Field: "timeout", Problem: "must be between 0s and 30s: a mint has no more time"})
	}
	if o.Lifetime < 0 {
		errs = append(errs, &refresher.Invalid{Field: "lifetime", Problem: "is negative; for example 12h"})
	}
	return errors.Join(errs...)
}

// Rebuild lists the files that New reads: none.
func (o CommandOptions) Rebuild() []string { return nil }

// Inputs lists the files whose change should start a refresh.
func (o CommandOptions) Inputs() []string { return nil }

// New makes the source; nothing is run before the first mint.
func (o CommandOptions) New(c *Cloud) (refresher.Source, error) {
	return &commandSource{cloud: c, options: o}, nil
}

type commandSource struct {
	cloud   *Cloud
	options CommandOptions
}

// Identity is the whole command line. Should somebody have put a secret there,
// a fingerprint stands for it.
func (s *commandSource) Identity() string {
	quoted := make([]string, len(s.options.Argv))
	for i, arg := range s.options.Argv {
		quoted[i] = arg
		if arg == "" || strings.ContainsFunc(arg, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r == '\\' || r >= 0x7f }) {
			quoted[i] = strconv.Quote(arg)
		}
	}
	line := strings.Join(quoted, " ")
	if safe := scrub.Text(line); safe != line {
		sum := sha256.Sum256([]byte(line))
		line = safe + " (" + hex.EncodeToString(sum[:4]) + ")"
	}
	return "command " + line + withLifetime(s.options.Lifetime)
}

func (s *commandSource) Mint(ctx context.Context) (refresher.Minted, error) {
	name := s.options.Argv[0]
	a := attempt{what: "run " + scrub.Text(name), began: time.Now()}

	started := s.cloud.now()
	timeout := s.options.Timeout
	if timeout <= 0 {
		timeout = maxCommandTime
	}
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		timeout = min(timeout, max(left-commandMargin, left/2))
	}
	result, err := run(ctx, s.cloud.processes, s.options.Argv, timeout)
	if err != nil {
		if t, ok := a.outOfTime(ctx, "the command"); ok {
			return refresher.Minted{}, a.failed(t)
		}
		return refresher.Minted{}, a.failed(commandTrouble(result, err))
	}
	got, err := parseContent(result.stdout)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{
			problem: fmt.Sprintf("its output (%d bytes) %s", len(result.stdout), err),
			remedy:  "it must print a token, or JSON with iam_token and expires_at, and nothing else",
		})
	}
	return s.cloud.minted(a, got.value, got.end(started, s.options.Lifetime), time.Time{})
}

func commandTrouble(result result, err error) trouble {
	t := trouble{problem: err.Error()}
	// What it printed may be a token although it failed.
	printed := strings.Fields(string(result.stdout))
	if last := quote(lastLine(result.stderr), printed...); last != "" {
		t.problem += ": " + last
	}
	var failed *runError
	if errors.As(err, &failed) {
		t.remedy = failed.remedy
		if home := homeless(); failed.exited && home != "" {
			t.remedy += "; " + home
		}
	}
	return t
}

// homeless says why a tool that keeps something in its home cannot, as in the
// sandbox of a service; empty when it can.
func homeless() string {
	home, err := os.UserHomeDir()
	switch {
	case err != nil:
		return "HOME is not set, should it need a home"
	case unix.Access(home, unix.W_OK) != nil:
		return "it cannot write to its home " + home + ", should it need one: the service's sandbox may forbid it (ProtectHome=, ReadWritePaths=)"
	}
	return ""
}

func lastLine(text []byte) string {
	line := strings.TrimSpace(string(text))
	if i := strings.LastIndexAny(line, "\r\n"); i >= 0 {
		line = line[i+1:]
	}
	return line
}
