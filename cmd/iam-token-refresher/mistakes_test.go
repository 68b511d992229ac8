package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the program says into testdata/mistakes.golden")

const mistakesFile = "testdata/mistakes.golden"

// TestMistakesAreExplainedAndNothingIsWritten runs the program itself on each
// bad input of testdata/mistakes.golden: the title, "$" and a command line other
// than "run --config config.yaml", the configuration, ">>>", and all that the
// program says. Its exit code must be 78 each time. Files that configurations
// name are below ${D}. "(as nobody)" in a title runs it without root's rights.
func TestMistakesAreExplainedAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "\n=== ")
	cases := strings.Split(rest, "\n=== ")
	said := make([]string, len(cases))
	t.Run("case", func(t *testing.T) {
		for i, c := range cases {
			title, body, _ := strings.Cut(strings.TrimSuffix(c, "\n")+"\n", "\n")
			input, want, ok := strings.Cut("\n"+body, "\n>>>\n")
			if !ok {
				t.Fatalf("%s: there is no >>>", title)
			}
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				got := mistake(t, title, strings.TrimPrefix(input, "\n"))
				if said[i] = title + input + "\n>>>\n" + got; *update {
					return
				}
				if got != want {
					t.Errorf("it says\n%s\ninstead of\n%s", got, want)
				}
			})
		}
	})
	if *update {
		text := head + "\n=== " + strings.Join(said, "\n=== ")
		if err := os.WriteFile(mistakesFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// mistake returns what the program says to an input.
func mistake(t *testing.T, title, input string) string {
	dir := mistakesDir(t)
	args := []string{"run", "--config", "config.yaml"}
	if line, rest, _ := strings.Cut(input, "\n"); strings.HasPrefix(line, "$ ") {
		args = strings.Fields(os.Expand(line[2:], func(string) string { return dir }))
		input = rest
	}
	if !strings.Contains(title, "no such configuration") {
		write(t, filepath.Join(dir, "config.yaml"), input+"\n", 0o644)
	}
	before := tree(t, dir)
	cmd := programIn(t, dir, args)
	if strings.Contains(title, "(as nobody)") && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// What is no mistake to the program would run for ever.
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitConfig {
		t.Errorf("it ended with %v", err)
	}
	if stdout.Len() > 0 {
		t.Errorf("stdout: %s", stdout.String())
	}
	if after := tree(t, dir); after != before {
		t.Errorf("something was written: there was\n%sand is\n%s", before, after)
	}
	return strings.ReplaceAll(stderr.String(), dir, "$D")
}

// programIn is the program in a directory that everybody can reach. The binary
// itself is in a directory that only we can: it is run by its descriptor.
func programIn(t *testing.T, dir string, args []string) *exec.Cmd {
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { binary.Close() })
	cmd := &exec.Cmd{Path: path, Args: append([]string{program}, args...), Dir: dir}
	if os.Geteuid() == 0 {
		cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{binary}
	}
	// Should the program take a mistake for none, nothing leaves this machine.
	cmd.Env = []string{"D=" + dir, "GORACE=atexit_sleep_ms=0", "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1"}
	return cmd
}

// mistakesDir has the files that configurations name.
func mistakesDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "itr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // wider than t.TempDir's
		t.Fatal(err)
	}
	rsa, err := sharedRSA()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(rsa)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	key := func(private string) string {
		doc := map[string]string{"id": "ajekey", "service_account_id": "ajebot", "key_algorithm": "RSA_2048"}
		if private != "" {
			doc["private_key"] = private
		}
		b, _ := json.Marshal(doc) // strings always marshal
		return string(b)
	}
	write(t, filepath.Join(dir, "key.json"), key(whole), 0o600)
	write(t, filepath.Join(dir, "unreadable.json"), key(whole), 0o000)
	write(t, filepath.Join(dir, "notjson.json"), "PLEASE "+whole, 0o600)
	write(t, filepath.Join(dir, "noprivate.json"), key(""), 0o600)
	write(t, filepath.Join(dir, "brokenpem.json"), key(whole[:200]), 0o600)
	write(t, filepath.Join(dir, "oauth.token"), "y0_not-a-real-one", 0o600)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "directory"), 0o755), syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// tree lists a directory with sizes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			list.WriteString(fs.FormatFileInfo(info) + " " + path + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}
