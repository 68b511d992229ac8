package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

// holdDir in the environment makes the test binary a process that opens that
// state directory and holds it until its input ends.
const holdDir = "STORE_TEST_HOLD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(onReadOnly); dir != "" {
		sayHowReadOnlyGoes(dir)
		return
	}
	dir := os.Getenv(holdDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := Open(dir, Options{}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// hold starts a process that holds dir, and waits until it does.
func hold(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), holdDir+"="+dir)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return cmd, strings.TrimSpace(line)
}

func TestASecondProcessIsRefusedAndToldOfTheFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	s := open(t, dir)
	_, said := hold(t, dir)
	for _, want := range []string{dir, fmt.Sprintf("in use by process %d, since 2", os.Getpid()), "state_dir"} {
		if !strings.Contains(said, want) {
			t.Errorf("the second process does not say %q: %s", want, said)
		}
	}
	must(t, s.Close())
	if _, said := hold(t, dir); said != "open" {
		t.Errorf("after Close: %s", said)
	}
}

func TestTheLockOfAProcessThatWasKilledIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, said := hold(t, dir)
	if said != "open" {
		t.Fatal(said)
	}
	_, err := Open(dir, Options{})
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("error %v", err)
	}
	if locked.PID != first.Process.Pid || locked.Dir != dir || time.Since(locked.Since).Abs() > time.Minute {
		t.Errorf("got %+v, want process %d and %s", locked, first.Process.Pid, dir)
	}
	must(t, first.Process.Signal(syscall.SIGKILL))
	_ = first.Wait()
	open(t, dir)
}

func TestADirectoryThatOthersMayEnterIsClosedToThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	var log bytes.Buffer
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer s.Close()
	st, err := os.Stat(dir)
	must(t, err)
	if st.Mode().Perm() != 0o700 {
		t.Errorf("mode %04o", st.Mode().Perm())
	}
	for _, want := range []string{"level=WARN", dir, "0755"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, log.String())
		}
	}
}

func TestOnlyATrustedLinksDirectoryIsClosed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make another user's link")
	}
	for uid, want := range map[int]os.FileMode{0: 0o700, 12345: 0o755} {
		tmp := t.TempDir()
		dir, link := filepath.Join(tmp, "dir"), filepath.Join(tmp, "link")
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.Symlink(dir, link))
		must(t, os.Lchown(link, uid, -1))
		s, err := Open(link, Options{})
		if err == nil {
			_ = s.Close()
		}
		if (err == nil) != (uid == 0) || err != nil && !strings.Contains(err.Error(), "a link that user 12345 made") {
			t.Errorf("user %d: %v", uid, err)
		}
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != want {
			t.Errorf("user %d: the directory is %v, %v", uid, st, err)
		}
	}
}

func TestDirectoriesThatAreRefusedSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dir  func(t *testing.T, tmp string) string
		says []string
	}{
		"no parent": {
			func(_ *testing.T, tmp string) string { return tmp + "/a/b" },
			[]string{"/a/b does not exist", "make that first"},
		},
		"a file": {
			func(t *testing.T, tmp string) string {
				must(t, os.WriteFile(tmp+"/f", nil, 0o600))
				return tmp + "/f"
			},
			[]string{"is not a directory"},
		},
		"below a file": {
			func(t *testing.T, tmp string) string {
				must(t, os.WriteFile(tmp+"/f", nil, 0o600))
				return tmp + "/f/state"
			},
			[]string{"not a directory"},
		},
		"a stranger's": {
			func(t *testing.T, tmp string) string {
				if os.Geteuid() != 0 {
					t.Skip("only root can give directories away")
				}
				must(t, os.Chown(tmp, 12345, -1))
				return tmp
			},
			[]string{"belongs to user 12345", "chown", "/state"},
		},
		"a lock that is a symbolic link": {
			func(t *testing.T, tmp string) string {
				must(t, os.Symlink("/dev/null", tmp+"/"+lockName))
				return tmp
			},
			[]string{"lock"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := c.dir(t, t.TempDir())
			checked := Check(dir)
			s, err := Open(dir, Options{})
			if err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
			if checked == nil {
				t.Fatal("Check finds nothing")
			}
			for _, want := range append(c.says, dir) {
				if !strings.Contains(err.Error(), want) || !strings.Contains(checked.Error(), want) {
					t.Errorf("the error does not say %q: %v; %v", want, err, checked)
				}
			}
		})
	}
}

func TestCheckLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	must(t, Check(dir))
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it made the directory: %v", err)
	}
	must(t, os.Mkdir(dir, 0o755))
	must(t, Check(dir))
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("it left %v, %v", files, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the directory is %v, %v", st, err)
	}
	s := open(t, dir)
	locked := (*LockedError)(nil)
	if err := Check(dir); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("beside a daemon: %v", err)
	}
	must(t, s.Close())
	must(t, Check(dir))
	_ = open(t, dir)
}

func TestADirectoryThatIsRemovedIsTakenAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	save(t, s, version("bot", 1), refresher.Finding{})
	must(t, os.RemoveAll(dir))
	two := version("bot", 2)
	save(t, s, two, refresher.Finding{})
	mustLoad(t, s, two)
	if _, said := hold(t, dir); !strings.Contains(said, "in use") {
		t.Errorf("the new directory is not locked: %s", said)
	}

	// Somebody else was faster.
	must(t, os.RemoveAll(dir))
	if _, said := hold(t, dir); said != "open" {
		t.Fatal(said)
	}
	var locked *LockedError
	if err := s.Save(t.Context(), "bot", "fp", version("bot", 3), refresher.Finding{}); !errors.As(err, &locked) {
		t.Errorf("saved into another process's directory: %v", err)
	}
}

func TestADirectoryWithoutWritePermissionIsReportedAndCanBeLoaded(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	s := open(t, dir)
	one := version("bot", 1)
	save(t, s, one, refresher.Finding{})
	must(t, os.Chmod(dir, 0o500))
	defer func() { _ = os.Chmod(dir, 0o700) }()
	if err := s.Save(t.Context(), "bot", "fp", version("bot", 2), refresher.Finding{}); err == nil {
		t.Error("saved")
	}
	mustLoad(t, s, one)
}

// A child that is being forked has copies of all descriptors for a moment.
func TestADirectoryThatWasLetGoIsFreeAlsoWhileSomebodyHasACopyOfTheLock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	held, err := syscall.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(held)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}
