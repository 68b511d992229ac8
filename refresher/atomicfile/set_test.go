package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets the test binary be a writer that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("ATOMICFILE_TEST_SET"); dir != "" {
		n, _ := strconv.Atoi(os.Getenv("ATOMICFILE_TEST_FROM"))
		for ; ; n++ {
			if err := WriteSet(dir, numbered(n), plain); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			fmt.Println(n)
		}
	}
	os.Exit(m.Run())
}

// numbered is a content that a mixture would show in.
func numbered(n int) map[string][]byte {
	long := strings.Repeat(fmt.Sprintf("%06d", n), 300)
	return map[string][]byte{"token": []byte(long), "expires_at": []byte(strconv.Itoa(n)), "token.json": []byte(`{"n": ` + long + `}`)}
}

// readSet reads a set in the way of a reader that needs files that match.
func readSet(dir string) (n int, err error) {
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if err != nil {
		return 0, err
	}
	defer root.Close()
	text, err := root.ReadFile("expires_at")
	if err != nil {
		return 0, err
	}
	if n, err = strconv.Atoi(string(text)); err != nil {
		return 0, err
	}
	for name, want := range numbered(n) {
		if got, err := root.ReadFile(name); err != nil || string(got) != string(want) {
			return n, fmt.Errorf("%s is not of version %d (%d bytes): %w", name, n, len(got), cmpErr(err))
		}
	}
	return n, nil
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("it differs")
	}
	return err
}

func TestASetIsLinksThatChangeTogether(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "set")
	for n := 1; n <= 4; n++ {
		must(t, WriteSet(dir, numbered(n), plain))
		must(t, HoldsSet(dir, numbered(n), plain))
		for name, want := range numbered(n) {
			if got := read(t, filepath.Join(dir, name)); got != string(want) {
				t.Errorf("%s holds %d bytes of something else", name, len(got))
			}
			if st := stat(t, filepath.Join(dir, "..data", name)); st.Mode() != 0o640 {
				t.Errorf("the mode of %s is %v", name, st.Mode())
			}
		}
		if got, err := readSet(dir); err != nil || got != n {
			t.Errorf("a reader sees %d, %v", got, err)
		}
		// Three links, ..data, the content and the one before.
		if want, all := 4+min(n, 2), strings.Fields(entries(t, dir)); len(all) != want {
			t.Errorf("after %d writes the directory holds %v", n, all)
		}
	}
	if st := stat(t, dir); st.Mode().Perm() != 0o750 {
		t.Errorf("the directory's mode is %v", st.Mode())
	}
}

func TestTheContentBeforeIsKeptForWhoIsReadingIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, WriteSet(dir, numbered(1), plain))
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	must(t, err)
	defer root.Close()
	must(t, WriteSet(dir, numbered(2), plain))
	if b, err := root.ReadFile("expires_at"); err != nil || string(b) != "1" {
		t.Errorf("it reads %q, %v", b, err)
	}
}

func TestADirectoryThatIsThereKeepsItsModeAndWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o711))
	must(t, os.WriteFile(filepath.Join(dir, "other"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "..set-and-not"), 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "..set-and-not", "ours"), 0o700))
	for n := range 3 {
		must(t, WriteSet(dir, numbered(n), plain))
	}
	if st := stat(t, dir); st.Mode().Perm() != 0o711 {
		t.Errorf("the mode is %v", st.Mode())
	}
	if read(t, filepath.Join(dir, "other")) != "x" {
		t.Error("another file was changed")
	}
	if _, err := os.Stat(filepath.Join(dir, "..set-and-not", "ours")); err != nil {
		t.Errorf("another directory was removed: %v", err)
	}
}

func TestWhatIsNotOursIsRefusedAndStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		want string
	}{
		"a file": {func(t *testing.T, dir string) {
			must(t, os.Remove(dir))
			must(t, os.WriteFile(dir, []byte("x"), 0o600))
		}, "it is not a directory"},
		"a symbolic link": {func(t *testing.T, dir string) {
			must(t, os.Rename(dir, dir+"2"))
			must(t, os.Symlink(dir+"2", dir))
		}, "it is a symbolic link"},
		"a file under one of our names": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "token"), []byte("x"), 0o600))
		}, "its token is not ours"},
		"a link under one of our names": {func(t *testing.T, dir string) {
			must(t, os.Symlink("elsewhere", filepath.Join(dir, "expires_at")))
		}, "its expires_at is not ours"},
		"another's set": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "..2026_11_23_17_10_49.1"), 0o700))
			must(t, os.Symlink("..2026_11_23_17_10_49.1", filepath.Join(dir, "..data")))
		}, "its ..data is not ours"},
		"a ..data that is no link": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "..data"), 0o700))
		}, "its ..data is not ours"},
		"a directory within what looks like a leftover": {func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, "..new", "deep"), 0o700))
		}, "holds deep, which is not ours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "set")
			must(t, os.Mkdir(dir, 0o700))
			c.make(t, dir)
			before := entries(t, filepath.Dir(dir)) + tree(t, dir)
			wantError(t, "Check", CheckSet(dir, numbered(1), plain), c.want)
			wantError(t, "Write", WriteSet(dir, numbered(1), plain), c.want)
			if after := entries(t, filepath.Dir(dir)) + tree(t, dir); after != before {
				t.Errorf("there was %s\nthere is %s", before, after)
			}
		})
	}
}

func tree(t *testing.T, dir string) (list string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		list += fmt.Sprintln(strings.TrimPrefix(path, dir), e.Type())
		return err
	})
	return list
}

func TestCheckOfASetLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, CheckSet(filepath.Join(dir, "set"), numbered(1), plain))
	must(t, CheckSet(dir, numbered(1), plain))
	if got := entries(t, dir); got != "" {
		t.Errorf("it left %s", got)
	}
	wantError(t, "CheckSet", CheckSet(filepath.Join(dir, "none", "set"), numbered(1), plain), "create the directory "+filepath.Join(dir, "none"))
	wantError(t, "WriteSet", WriteSet(filepath.Join(dir, "none", "set"), numbered(1), plain), "create the directory "+filepath.Join(dir, "none"))
}

func TestADisturbedSetIsNoticedAndPutBack(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(t *testing.T, dir string){
		"a link removed": func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "token"))) },
		"a link turned":  func(t *testing.T, dir string) { turn(t, filepath.Join(dir, "token"), "/etc/passwd") },
		"a link replaced": func(t *testing.T, dir string) {
			must(t, Write(filepath.Join(dir, "x"), nil, plain))
			must(t, os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "token")))
		},
		"..data removed":   func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "..data"))) },
		"..data turned":    func(t *testing.T, dir string) { turn(t, filepath.Join(dir, "..data"), "..set-none") },
		"a file changed":   func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, "token"), []byte("x"), 0o600)) },
		"a file removed":   func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "..data", "token"))) },
		"a mode changed":   func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "token"), 0o666)) },
		"a content closed": func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "..data/"), 0o700)) },
		"a content removed": func(t *testing.T, dir string) {
			to, _ := os.Readlink(filepath.Join(dir, "..data"))
			must(t, os.RemoveAll(filepath.Join(dir, to)))
		},
		"all removed": func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "set")
			must(t, WriteSet(dir, numbered(1), plain))
			disturb(t, dir)
			if HoldsSet(dir, numbered(1), plain) == nil {
				t.Error("it was not noticed")
			}
			must(t, WriteSet(dir, numbered(1), plain))
			must(t, HoldsSet(dir, numbered(1), plain))
		})
	}
}

func turn(t *testing.T, path, to string) {
	t.Helper()
	must(t, os.Remove(path))
	must(t, os.Symlink(to, path))
}

// A writer that is killed at any moment leaves one content whole, and what else
// it leaves is gone after the next write.
func TestAKilledWriterLeavesTheOldContentOrTheNew(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "set")
	self, err := os.Executable()
	must(t, err)
	next, kills := 1, 15
	leftovers := 0
	for range kills {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_SET="+dir, "ATOMICFILE_TEST_FROM="+strconv.Itoa(next))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		first := make([]byte, 1)
		_, err = io.ReadFull(out, first) // it writes
		must(t, err)
		<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
		must(t, cmd.Process.Kill())
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		said := strings.Fields(string(first) + string(rest))
		last, err := strconv.Atoi(said[len(said)-1])
		if err != nil {
			t.Fatalf("the writer says %q", said)
		}
		got, err := readSet(dir)
		if err != nil || got < last-1 || got > last+1 {
			t.Fatalf("killed after %d it left %d: %v", last, got, err)
		}
		must(t, HoldsSet(dir, numbered(got), plain))
		if len(strings.Fields(entries(t, dir))) > 6 {
			leftovers++
		}
		next = got + 1
		must(t, WriteSet(dir, numbered(next), plain))
		if all := strings.Fields(entries(t, dir)); len(all) != 6 {
			t.Fatalf("the next write leaves %v", all)
		}
	}
	t.Logf("%d kills left something to remove %d times", kills, leftovers)
}

func TestReadersOfASetNeverSeeAMixture(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "set")
	must(t, WriteSet(dir, numbered(0), plain))
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for last := 0; !stop.Load(); {
				n, err := readSet(dir)
				if errors.Is(err, fs.ErrNotExist) {
					continue // two more contents since it was resolved
				}
				if err != nil || n < last {
					t.Errorf("after %d: %d, %v", last, n, err)
					return
				}
				last = n
			}
		})
		all.Go(func() { // each file by itself
			for !stop.Load() {
				b, err := os.ReadFile(filepath.Join(dir, "token"))
				if err != nil || len(b) != 1800 || strings.Trim(string(b), string(b[:6])) != "" {
					t.Errorf("a file reads %d bytes, %v", len(b), err)
					return
				}
			}
		})
	}
	for n := 1; n <= 40; n++ {
		must(t, WriteSet(dir, numbered(n), plain))
	}
	stop.Store(true)
	all.Wait()
}

func TestWhatALiveWriterIsMakingIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, WriteSet(dir, numbered(1), plain))
	root := openTestRoot(t, dir)
	other, err := claimDir(root, "..new")
	must(t, err)
	wantError(t, "WriteSet", WriteSet(dir, numbered(2), plain), "another program is writing")
	must(t, other.fill(numbered(3), plain))
	must(t, other.rename("..set-3"))
	must(t, WriteSet(dir, numbered(2), plain))
	must(t, linkTo(root, "..data", "..set-3", "..set-3"))
	other.done = true
	other.discard()
	if n, err := readSet(dir); err != nil || n != 3 {
		t.Errorf("it holds %d, %v", n, err)
	}
}

func openTestRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

// The owner of a set's directory can put a link in the place of what is being
// written there: the writer may be root, and the link may lead to anything.
func TestALinkInThePlaceOfTheNewDirectoryLeadsNowhere(t *testing.T) {
	t.Parallel()
	for name, swapLate := range map[string]bool{"before it is filled": false, "before it is renamed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, victim := t.TempDir(), t.TempDir()
			precious := filepath.Join(victim, "precious")
			must(t, os.WriteFile(precious, []byte("x"), 0o600))
			fresh, err := claimDir(openTestRoot(t, dir), "..new")
			must(t, err)
			if swapLate {
				must(t, fresh.fill(numbered(1), plain))
			}
			must(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "away")))
			must(t, os.Symlink(victim, filepath.Join(dir, "..new")))
			if !swapLate {
				must(t, fresh.fill(numbered(1), plain))
			}
			wantError(t, "rename", fresh.rename("..set-1"), "somebody else replaced it")
			fresh.discard()
			if got := entries(t, victim); got != "precious" || read(t, precious) != "x" {
				t.Errorf("the other directory holds %q", got)
			}
		})
	}
}

func TestALinkInThePlaceOfALeftoverIsRefused(t *testing.T) {
	t.Parallel()
	dir, victim := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(victim, "precious"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "..new"), 0o700))
	leftover, err := openTempDir(openTestRoot(t, dir), "..new")
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "..new")))
	must(t, os.Symlink(victim, filepath.Join(dir, "..new")))
	_ = leftover.remove()
	leftover.close()
	wantError(t, "WriteSet", WriteSet(dir, numbered(1), plain), "its ..new is not ours: remove it")
	if got := entries(t, victim); got != "precious" {
		t.Errorf("the other directory holds %q", got)
	}
}

func TestConcurrentWritersOfASetDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "set")
	var all sync.WaitGroup
	var written atomic.Int32
	for w := range 4 {
		all.Go(func() {
			for n := range 10 {
				if WriteSet(dir, numbered(w*100+n), plain) == nil {
					written.Add(1)
				}
				if _, err := readSet(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d of 40 writes won", written.Load())
	must(t, WriteSet(dir, numbered(7), plain))
	if n, err := readSet(dir); err != nil || n != 7 {
		t.Errorf("it holds %d, %v", n, err)
	}
}
