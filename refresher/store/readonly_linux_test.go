package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"iam-token-refresher/refresher"
)

// onReadOnly in the environment makes the test binary a process that mounts that
// directory read-only, for itself alone, and says how the store bears it.
const onReadOnly = "STORE_TEST_READ_ONLY"

const cannotMount = "cannot mount"

func sayHowReadOnlyGoes(dir string) {
	for _, flags := range []uintptr{syscall.MS_BIND, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY} {
		if err := syscall.Mount(dir, dir, "", flags, ""); err != nil {
			fmt.Println(cannotMount, err)
			return
		}
	}
	var log bytes.Buffer
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		fmt.Println("open:", err)
		return
	}
	defer s.Close()
	v, _, ok, err := s.Load("bot", "fp")
	fmt.Println("load:", v.N, ok, err)
	fmt.Println("save:", s.Save(context.Background(), "bot", "fp", version("bot", 2), refresher.Finding{}))
	fmt.Println("log:", log.String())
}

func TestOnAReadOnlyFileSystemTheStateIsLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	save(t, s, version("bot", 1), refresher.Finding{})
	must(t, s.Close())

	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), onReadOnly+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), cannotMount) {
		t.Skipf("no read-only file system to be had: %v %s", err, out)
	}
	for _, want := range []string{"load: 1 true <nil>", "save: save the state", "read-only file system", "level=WARN"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the process does not say %q: %s", want, out)
		}
	}
}
