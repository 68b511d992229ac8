package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVariable makes this test binary the program that a test is about.
const roleVariable = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "adopt":
		os.Exit(adopt())
	case "parent":
		os.Exit(parent())
	}
}

// as runs this binary in a role.
func as(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts programs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// adopt is a process that orphans are left to. While 500 of them end, its own
// commands are to keep their exit codes.
func adopt() int {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	// As good as being init, and needs no rights.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	o := New()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var reaper sync.WaitGroup
	reaper.Go(func() { o.reap(ctx) })

	var commands sync.WaitGroup
	wrong := make(chan error, 100)
	for worker := range 4 {
		commands.Go(func() {
			for i := range 10 {
				code := 1 + (worker*10+i)%100
				// Each leaves orphans behind, some of which outlive it.
				err := o.Run(exec.Command("sh", "-c", fmt.Sprintf("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do (true &) ; done; exit %d", code)), Phases{})
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != code {
					wrong <- fmt.Errorf("a command that exits with %d: %v", code, err)
				}
			}
		})
	}
	commands.Wait()
	close(wrong)
	if err := <-wrong; err != nil {
		return fail(err)
	}
	// The last orphans are still ending: we have children until all are waited for.
	for !errors.Is(unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.ECHILD) {
		if ctx.Err() != nil {
			return fail(errors.New("orphans are left that nobody waits for"))
		}
	}
	cancel()
	reaper.Wait()
	if len(o.ours) != 0 {
		return fail(fmt.Errorf("%d commands are still thought to run", len(o.ours)))
	}
	return 0
}

func TestOrphansAreWaitedForAndCommandsKeepTheirExitCodes(t *testing.T) {
	t.Parallel()
	cmd := as(t, "adopt")
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// parent starts a program that ignores SIGTERM, says its PID, and waits.
func parent() int {
	cmd := exec.Command("sh", "-c", `trap "" TERM HUP INT; echo $$; exec sleep 1000`)
	cmd.Stdout = os.Stdout
	_ = New().Run(cmd, Phases{})
	return 1
}

func TestAProgramDoesNotOutliveAParentThatIsKilled(t *testing.T) {
	t.Parallel()
	cmd := as(t, "parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Both hold the pipe: it is at its end when both are gone.
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, in); ended <- err }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		var pid int
		_, _ = fmt.Sscan(line, &pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Error("the program lives on")
	}
	_ = cmd.Wait()
}

func TestItsPIDIsStillItsOwnWhenAProgramHasEnded(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*Owner{"owned": New(), "not owned": nil} {
		var order []string
		cmd := exec.Command("sh", "-c", "exit 7")
		err := o.Run(cmd, Phases{
			Started: func() { order = append(order, "started") },
			Ended: func(ok bool) {
				order = append(order, "ended")
				if ok {
					t.Errorf("%s: exit code 7 is taken for a success", name)
				}
				if err := syscall.Kill(cmd.Process.Pid, 0); err != nil {
					t.Errorf("%s: process %d is not there any more: %v", name, cmd.Process.Pid, err)
				}
			},
		})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("%s: the end is %v, not exit code 7", name, err)
		}
		if got := strings.Join(order, " "); got != "started ended" {
			t.Errorf("%s: the phases were %q", name, got)
		}
	}
}

func TestItIsKnownBeforeAProgramIsWaitedForWhetherItSucceeded(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]bool{"exit 0": true, "exit 1": false, "exit 255": false, "kill -9 $$": false, "sleep 1000 & exit 0": true} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		InGroup(cmd)
		err := New().Run(cmd, Phases{Ended: func(ok bool) {
			if ok != want {
				t.Errorf("%s: a success: %v", script, ok)
			}
			if err := KillGroup(cmd); err != nil {
				t.Errorf("%s: kill its group: %v", script, err)
			}
		}})
		if (err == nil) != want {
			t.Errorf("%s: it ended with %v", script, err)
		}
	}
}

func TestNobodyIsKilledInThePlaceOfAProgramThatWasWaitedFor(t *testing.T) {
	t.Parallel()
	// Stands for a group that has got its ID since.
	stranger := exec.CommandContext(t.Context(), "sleep", "1000")
	InGroup(stranger)
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "true")
	InGroup(cmd)
	cmd.Cancel = func() error { return KillGroup(stranger) }
	if err := New().Run(cmd, Phases{}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Cancel(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("the end of its context says %v", err)
	}
	if err := stranger.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := stranger.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the stranger ended with %v", err)
	}
}

// The limit belongs to the process: no other test of this package runs beside
// this one.
func TestProgramsGetBackTheLimitOnCoreFilesThatWasInForce(t *testing.T) {
	before := coreLimit()
	t.Cleanup(before.set)
	o := New()
	o.core.Cur = min(4096, before.Max) // may be fixed to 0
	ours := before
	ours.Cur = 0
	ours.set()
	want := fmt.Sprintln(o.core.Cur / 512)
	var programs sync.WaitGroup
	for range 20 {
		programs.Go(func() {
			var out strings.Builder
			cmd := exec.Command("sh", "-c", "ulimit -S -c")
			cmd.Stdout = &out
			if err := o.Run(cmd, Phases{}); err != nil || out.String() != want {
				t.Errorf("its limit is %q, not %q: %v", out.String(), want, err)
			}
		})
	}
	programs.Wait()
	if after := coreLimit(); after != ours {
		t.Errorf("our own limit is %+v, not %+v", after, ours)
	}
}

func TestAProgramThatCannotBeStartedIsNobodys(t *testing.T) {
	t.Parallel()
	o := New()
	if err := o.Run(exec.Command(filepath.Join(t.TempDir(), "none")), Phases{Started: func() { t.Error("it was started") }}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if o.starting != 0 || len(o.ours) != 0 {
		t.Errorf("it is thought to run: %+v", o)
	}
}

func TestTheEndOfTheContextKillsTheWholeGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", `sleep 1000 & echo; wait`)
	InGroup(cmd)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	ended := make(chan error, 1)
	go func() { ended <- New().Run(cmd, Phases{Started: func() { w.Close() }}) }()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it ended well")
	}
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a member of the group lives on: %v", err)
	}
}

func TestChildrenAreNotToldWhatIsForUsAlone(t *testing.T) {
	t.Parallel()
	got := Environment([]string{
		"PATH=/bin", "NOTIFY_SOCKET=/run/n", "LISTEN_FDS=1", "LISTEN_PID=2", "WATCHDOG_USEC=3", "CREDENTIALS_DIRECTORY=/c",
		"ITR_KEY_FILE=/key", "ITR_SOCKET=/run/s", "ITR_SOCKET_PATH=/run/s", "NOTIFY_SOCKETS=mine",
	})
	if want := "PATH=/bin ITR_SOCKET=/run/s NOTIFY_SOCKETS=mine"; strings.Join(got, " ") != want {
		t.Errorf("they get %q, not %q", got, want)
	}
}

func TestWhyAProgramDoesNotStartIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("\x00\x01"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for program, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no such program: give its full path",
		"no-such-program-anywhere": "there is no such program: give its full path",
		file("data", 0o600):        "permission denied: this user may not execute it: check its mode",
		file("garbage", 0o700):     "it cannot be started: exec format error",
	} {
		var start *StartError
		if err := ExplainStart(New().Run(exec.Command(program), Phases{})); !errors.As(err, &start) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", program, err)
		}
	}
	if err := ExplainStart(nil); err != nil {
		t.Errorf("nothing is explained as %v", err)
	}
}
