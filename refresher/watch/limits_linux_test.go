package watch

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// limitTo in the environment makes the test binary a process that sets a limit
// of its own user namespace, NAME=N, watches a file and logs to its output.
const limitTo = "WATCH_TEST_LIMIT"

const cannotLimit = "cannot limit"

func TestMain(m *testing.M) {
	limit := os.Getenv(limitTo)
	if limit == "" {
		os.Exit(m.Run())
	}
	name, n, _ := strings.Cut(limit, "=")
	if err := os.WriteFile("/proc/sys/user/"+name, []byte(n), 0o644); err != nil {
		fmt.Println(cannotLimit, err)
		return
	}
	w, err := New(Options{Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Add(filepath.Join(os.TempDir(), "file"), func() {})
	w.Add(filepath.Join(os.TempDir(), "another"), func() {})
	fmt.Println("closed:", w.Close())
}

func TestTheKernelsLimitsAreNamedOnce(t *testing.T) {
	t.Parallel()
	for limit, sysctl := range map[string]string{
		"max_inotify_instances=0": "fs.inotify.max_user_instances",
		"max_inotify_watches=1":   "fs.inotify.max_user_watches",
	} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			exe, err := os.Executable()
			must(t, err)
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), limitTo+"="+limit, "GORACE=atexit_sleep_ms=0")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			}
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Contains(string(out), cannotLimit) {
				t.Skipf("no limits of our own to be had: %v %s", err, out)
			}
			if n := strings.Count(string(out), sysctl); n != 1 || !strings.Contains(string(out), "closed: <nil>") {
				t.Errorf("the process named %s %d times, want once: %s", sysctl, n, out)
			}
		})
	}
}
