package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hanging prepares a command that hangs in the kernel as on a dead file server:
// in the file of the authorities. hangs returns once it does.
func hanging(t *testing.T, args ...string) (cmd *exec.Cmd, hangs func()) {
	t.Helper()
	dir := mistakesDir(t)
	write(t, filepath.Join(dir, "c.yaml"), "tokens:\n  - name: bot\n    source: {service_account_key: {file: "+dir+"/key.json}}\n    probe: none\n    sinks: [file: {path: "+dir+"/t}]\n", 0o600)
	cmd = programIn(t, dir, append(args, "--config", "c.yaml"))
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+filepath.Join(dir, "fifo"))
	return cmd, func() {
		t.Helper()
		silent, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_WRONLY, 0) // returns when it is read
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { silent.Close() })
	}
}

func TestOneSignalEndsACommandThatHangsInTheKernel(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"check", "once"} {
		for name, read := range map[string]bool{"": true, ", and its messages are not read": false} {
			t.Run(command+name, func(t *testing.T) {
				t.Parallel()
				cmd, hangs := hanging(t, command)
				stderr := scratch(t)
				if !read {
					_, stderr = unread(t)
				}
				ended := startUnheard(t, cmd, stderr)
				hangs()
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				wantEnd(t, cmd, ended, exitFailed)
				if !read {
					return
				}
				if said, err := os.ReadFile(stderr.Name()); err != nil || !strings.Contains(string(said), errHung.Error()) {
					t.Errorf("it says %q, %v", said, err)
				}
			})
		}
	}
}

func TestASignalEndsAWatchThatNobodyReads(t *testing.T) {
	t.Parallel()
	const value = 1 << 20 // more than a pipe takes
	socket := socketOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"a-1"`)
		_, _ = io.WriteString(w, `{"value":"`+strings.Repeat("v", value)+`"}`)
	})
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cmd := programIn(t, t.TempDir(), []string{"get", "bot", "--watch", "--socket", socket})
	cmd.Stdout = writer
	ended := startUnheard(t, cmd, scratch(t))
	writer.Close()
	room, err := unix.FcntlInt(reader.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; {
		n, err := unix.IoctlGetInt(int(reader.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if n == room {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it has written %d bytes", n)
		}
		<-time.After(2 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, cmd, ended, exitFailed)
}

func TestAFIFOInPlaceOfATokensFileIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	dir := mistakesDir(t)
	write(t, filepath.Join(dir, "c.yaml"), "tokens:\n  - name: bot\n    source: {service_account_key: {file: "+dir+"/key.json}}\n    probe: none\n    sinks: [file: {path: "+dir+"/fifo}]\n", 0o600)
	stderr := scratch(t)
	cmd := programIn(t, dir, []string{"get", "bot", "--timeout", "1s", "--config", "c.yaml"})
	wantEnd(t, cmd, startUnheard(t, cmd, stderr), exitFailed)
	if said, err := os.ReadFile(stderr.Name()); err != nil || !strings.Contains(string(said), "fifo: not a regular file") {
		t.Errorf("it says %q, %v", said, err)
	}
}
