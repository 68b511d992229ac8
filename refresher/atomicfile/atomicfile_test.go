package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

var plain = Options{Mode: 0o640, UID: -1, GID: -1}

func TestWriteMakesAFileWithExactlyThisContentAndMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o644, 0o666, 0o444, 0o777} {
		path := filepath.Join(t.TempDir(), "token")
		opt := Options{Mode: mode, UID: os.Geteuid(), GID: os.Getegid()}
		for _, content := range []string{"first", "a longer second one", "", "3"} {
			must(t, Write(path, []byte(content), opt))
			if got := read(t, path); got != content {
				t.Fatalf("the file holds %q, want %q", got, content)
			}
			if st := stat(t, path); st.Mode() != mode {
				t.Fatalf("the mode is %v, want %v", st.Mode(), mode)
			}
		}
		onlyEntry(t, filepath.Dir(path), "token")
	}
}

// The umask belongs to the process: no other test of this package runs beside
// this one.
func TestWriteKeepsTheModeUnderAnyUmask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for _, umask := range []int{0, 0o027, 0o777} {
		old := syscall.Umask(umask)
		err := Write(path, []byte("x"), plain)
		syscall.Umask(old)
		must(t, err)
		if got := stat(t, path).Mode(); got != 0o640 {
			t.Errorf("umask %04o: the mode is %04o, want 0640", umask, got)
		}
	}
}

func TestWriteReplacesTheFileAndDoesNotWriteIntoIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	must(t, Write(path, []byte("old"), plain))
	reader, err := os.Open(path)
	must(t, err)
	defer reader.Close()
	must(t, Write(path, []byte("new content"), plain))
	var b bytes.Buffer
	if _, err := b.ReadFrom(reader); err != nil || b.String() != "old" {
		t.Errorf("who had the old file open reads %q (%v), want the old content", b.String(), err)
	}
}

func TestWriteGivesTheFileToItsOwnerAndGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	path := filepath.Join(t.TempDir(), "token")
	opt := Options{Mode: 0o640, UID: 1234, GID: 2345}
	for _, inPlace := range []bool{false, true} {
		opt.InPlace = inPlace
		opt.UID++
		must(t, os.RemoveAll(path))
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, Write(path, []byte("x"), opt))
		if uid, gid := owner(stat(t, path)); uid != opt.UID || gid != 2345 {
			t.Errorf("it belongs to %d:%d, want %d:2345", uid, gid, opt.UID)
		}
		must(t, Holds(path, []byte("x"), opt))
	}
}

func TestNothingIsWrittenIntoAFileOfSomebodyElse(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	path := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Chown(path, 1234, 2345))
	for uid, want := range map[int]string{-1: "it belongs to user 1234", 0: "remove it", 1235: "or set `owner: \"1234\"`"} {
		opt := Options{Mode: 0o600, UID: uid, GID: -1, InPlace: true}
		wantError(t, "Check", Check(path, opt), want)
		wantError(t, "Write", Write(path, []byte("x"), opt), want)
		if got := stat(t, path); got.Size() != 0 {
			t.Errorf("for owner %d it holds %d bytes", uid, got.Size())
		}
	}
	if uid, _ := owner(stat(t, path)); uid != 1234 {
		t.Errorf("it was given to %d", uid)
	}
	opt := Options{Mode: 0o600, UID: 1234, GID: -1, InPlace: true}
	must(t, Check(path, opt))
	must(t, Write(path, []byte("x"), opt))
	// Replaced, it is ours.
	must(t, Write(path, []byte("x"), plain))
	if uid, _ := owner(stat(t, path)); uid != 0 {
		t.Errorf("it belongs to %d", uid)
	}
}

func TestTargetsThatAreNotOneRegularFileAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a symbolic link": {func(p string) error { must(t, os.WriteFile(p+".real", nil, 0o600)); return os.Symlink(p+".real", p) }, "it is a symbolic link: name the file that it points to"},
		"a dangling link": {func(p string) error { return os.Symlink("nowhere", p) }, "it is a symbolic link"},
		"a hard link":     {func(p string) error { must(t, os.WriteFile(p+".real", nil, 0o600)); return os.Link(p+".real", p) }, "it has 2 hard links"},
		"a directory":     {func(p string) error { return os.Mkdir(p, 0o700) }, "it is a directory: name a file in it"},
		"a FIFO":          {func(p string) error { return syscall.Mkfifo(p, 0o600) }, "it is a FIFO: remove it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, inPlace := range []bool{false, true} {
				opt := plain
				opt.InPlace = inPlace
				path := filepath.Join(t.TempDir(), "token")
				must(t, c.make(path))
				before := entries(t, filepath.Dir(path))
				for call, err := range map[string]error{
					"Write": Write(path, []byte("secret"), opt),
					"Check": Check(path, opt),
					"Holds": Holds(path, []byte("secret"), opt),
				} {
					wantError(t, call, err, c.want)
				}
				if after := entries(t, filepath.Dir(path)); after != before {
					t.Errorf("the directory holds %s, before it was %s", after, before)
				}
			}
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for path, want := range map[string]string{
		filepath.Join(dir, "missing", "token"):       "create the directory " + filepath.Join(dir, "missing"),
		filepath.Join(dir, "file", "token"):          "directory",
		filepath.Join(dir, strings.Repeat("x", 256)): "choose a shorter name",
	} {
		wantError(t, "Write", Write(path, []byte("secret"), plain), want)
		wantError(t, "Check", Check(path, plain), want)
	}
	onlyEntry(t, dir, "file")
}

func TestLongNamesWork(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 255))
	must(t, Write(path, []byte("x"), plain))
	must(t, Write(path, []byte("y"), plain))
	onlyEntry(t, filepath.Dir(path), filepath.Base(path))
}

func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	leftover := tempPrefix(path) + "0"
	for _, mode := range []fs.FileMode{0o600, 0o440, 0} {
		must(t, os.WriteFile(leftover, []byte("half a tok"), 0o600))
		must(t, os.Chmod(leftover, mode))
		must(t, Write(path, []byte("x"), plain))
		onlyEntry(t, filepath.Dir(path), "token")
	}
}

func TestTheTemporaryFileOfALiveWriterIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	other, err := newTemp(path)
	must(t, err)
	must(t, Write(path, []byte("x"), plain))
	if !isAt(other.path, other.f) {
		t.Fatal("another writer's temporary file was taken away")
	}
	_, err = other.f.WriteString("y")
	must(t, err)
	must(t, other.rename(path))
	other.discard()
	if got := read(t, path); got != "y" {
		t.Errorf("the file holds %q, want the other writer's", got)
	}
	onlyEntry(t, filepath.Dir(path), "token")
}

func TestWhoKeepsTheUsualNamesTakenKeepsNobodyFromWriting(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"token", strings.Repeat("n", 220), strings.Repeat("n", 255)} {
		path := filepath.Join(t.TempDir(), name)
		for range tempNames {
			other, err := newTemp(path)
			must(t, err)
			defer other.discard()
		}
		before := entries(t, filepath.Dir(path))
		must(t, Check(path, plain))
		if got := entries(t, filepath.Dir(path)); got != before {
			t.Errorf("a check leaves %s of %s", got, before)
		}
		must(t, Write(path, []byte("x"), plain))
		if got := read(t, path); got != "x" {
			t.Errorf("it holds %q", got)
		}
		if got := entries(t, filepath.Dir(path)); got != before+" "+name {
			t.Errorf("it leaves %s of %s", got, before)
		}
	}
}

func TestReadersAndConcurrentWritersNeverMakeAMixture(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	content := func(c byte) []byte { return bytes.Repeat([]byte{c}, 1000+int(c)) }
	must(t, Write(path, content('a'), plain))
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for i := range 50 {
				if err := Write(path, content('a'+byte((i+w)%26)), plain); err != nil &&
					!strings.Contains(err.Error(), "somebody else") && !strings.Contains(err.Error(), "something else") {
					t.Error(err)
				}
			}
		})
	}
	reads := 0
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			b, err := os.ReadFile(path)
			if err != nil || len(b) == 0 || !bytes.Equal(b, content(b[0])) {
				t.Errorf("read %d bytes that nobody wrote: %v", len(b), err)
				return
			}
			reads++
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
	if reads == 0 {
		t.Error("nobody read")
	}
	onlyEntry(t, filepath.Dir(path), "token")
}

func TestInPlaceKeepsTheFileItself(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	opt := plain
	opt.InPlace = true
	must(t, Write(path, []byte("the first and longer one"), opt))
	before := stat(t, path)
	for _, content := range []string{"short", "longer again", ""} {
		must(t, Write(path, []byte(content), opt))
		if got := read(t, path); got != content {
			t.Fatalf("the file holds %q, want %q", got, content)
		}
	}
	if !os.SameFile(before, stat(t, path)) {
		t.Error("it is another file now")
	}
	must(t, os.Chmod(path, 0o666))
	must(t, Write(path, []byte("x"), opt))
	if got := stat(t, path).Mode(); got != 0o640 {
		t.Errorf("the mode is %04o, want 0640", got)
	}
	must(t, Check(path, opt))
}

func TestHoldsTellsWhatDiffers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"nothing":         {func(string) error { return nil }, ""},
		"gone":            {os.Remove, "is gone"},
		"mode":            {func(p string) error { return os.Chmod(p, 0o644) }, "its mode is 0644 and not 0640"},
		"length":          {func(p string) error { return os.WriteFile(p, []byte("other"), 0o640) }, "something else (5 bytes instead of 6)"},
		"same length":     {func(p string) error { return os.WriteFile(p, []byte("SECRET"), 0o640) }, "something else (of the same 6 bytes)"},
		"another link":    {func(p string) error { return os.Link(p, p+"2") }, "2 hard links"},
		"a directory now": {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "it is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "token")
			must(t, Write(path, []byte("secret"), plain))
			must(t, c.change(path))
			err := Holds(path, []byte("secret"), plain)
			if c.want == "" {
				must(t, err)
				return
			}
			wantError(t, "Holds", err, c.want)
			if strings.Contains(strings.ToLower(err.Error()), "secret") {
				t.Errorf("the error quotes the content: %v", err)
			}
		})
	}
}

func TestHoldsSeesAnotherOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	path := filepath.Join(t.TempDir(), "token")
	opt := Options{Mode: 0o640, UID: 0, GID: 0}
	must(t, Write(path, []byte("x"), opt))
	must(t, os.Chown(path, 7, -1))
	wantError(t, "Holds", Holds(path, []byte("x"), opt), "its owner is 7 and not 0")
	must(t, os.Chown(path, 0, 8))
	wantError(t, "Holds", Holds(path, []byte("x"), opt), "its group is 8 and not 0")
}

func TestCheckLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	must(t, Check(path, plain))
	if got := entries(t, dir); got != "" {
		t.Errorf("Check left %s", got)
	}
	must(t, Write(path, []byte("x"), plain))
	before := stat(t, path)
	must(t, Check(path, plain))
	if after := stat(t, path); !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("Check touched the file")
	}
	onlyEntry(t, dir, "token")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, call string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v, want one with %q", call, err, want)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	return st
}

func entries(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func onlyEntry(t *testing.T, dir, name string) {
	t.Helper()
	if got := entries(t, dir); got != name {
		t.Errorf("the directory holds %s, want only %s", got, name)
	}
}
