package oauth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

func TestWhatRootStoresBelongsToTheOwnerOfTheDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	w := newWorld(t, emulator.Options{})
	login := w.stored()
	w.try(os.Mkdir(w.path("theirs"), 0o700))
	w.try(os.Chown(w.path("theirs"), 54321, 54322))
	w.write("mine", "")
	w.try(os.Link(w.path("mine"), w.path("theirs/linked.lock")))
	c := NewClient(w.config, App{ClientID: emulator.ClientID})
	for _, name := range []string{"theirs/login", "theirs/linked"} {
		w.try(c.Keep(t.Context(), w.path(name), login))
	}
	for name, want := range map[string]int{"theirs/login": 54321, "theirs/login.lock": 54321, "theirs/linked": 54321, "mine": 0} {
		st, err := os.Stat(w.path(name))
		w.try(err)
		if uid, _ := owner(st); uid != want {
			t.Errorf("%s belongs to %d and not to %d", name, uid, want)
		}
	}
}

func TestRootGivesNoLoginToWhoCameFirstToAPlaceForAll(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	const stranger, other = 54321, 54322
	w := newWorld(t, emulator.Options{})
	login := w.stored()
	c := NewClient(w.config, App{ClientID: emulator.ClientID})
	for name, s := range map[string]struct {
		dir     string
		mode    os.FileMode
		lord    int
		squat   func(dir string) string
		refused string
	}{
		"a file in a place like /tmp":        {"tmp", 0o777 | os.ModeSticky, 0, w.squatFile, "belongs to uid 54321, who would be given"},
		"a directory in a place like /tmp":   {"tmpdir", 0o777 | os.ModeSticky, 0, w.squatDir, "belongs to uid 54321, who would be given"},
		"a file where a group may write":     {"group", 0o770, 0, w.squatFile, "remove "},
		"a file in another's directory":      {"others", 0o755, other, w.squatFile, "or choose a directory"},
		"a file where only root may write":   {"root", 0o755, 0, w.squatFile, ""},
		"a file where its owner may write":   {"own", 0o700, stranger, w.squatFile, ""},
		"a directory where only root writes": {"rootdir", 0o755, 0, w.squatDir, ""},
	} {
		dir := w.path(s.dir)
		w.try(os.Mkdir(dir, 0o700))
		w.try(os.Chmod(dir, s.mode))
		w.try(os.Chown(dir, s.lord, 0))
		path := s.squat(dir)
		checked, kept := CheckKeep(path), c.Keep(t.Context(), path, login)
		if s.refused == "" {
			w.try(errors.Join(checked, kept))
			if st, err := os.Stat(path); err != nil || st.Sys().(*syscall.Stat_t).Uid != stranger {
				t.Errorf("%s: %v, %v: it should be the owner's", name, st, err)
			}
			continue
		}
		for _, err := range []error{checked, kept} {
			if err == nil || !strings.Contains(err.Error(), s.refused) {
				t.Errorf("%s: %v does not say %q", name, err, s.refused)
			}
		}
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			t.Errorf("%s: it holds %d bytes", name, st.Size())
		}
	}
	// Where nothing stands yet, root's is what root writes.
	w.try(KeepSecret(w.path("tmp/secret"), "word"))
	if st, err := os.Stat(w.path("tmp/secret")); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("a new file: %v, %v", st, err)
	}
}

// squatFile is somebody making an empty file where a login is to be.
func (w *world) squatFile(dir string) string {
	path := filepath.Join(dir, "login")
	w.try(os.WriteFile(path, nil, 0o600))
	w.try(os.Chown(path, 54321, 54321))
	return path
}

// squatDir is somebody making the directory for it.
func (w *world) squatDir(dir string) string {
	w.try(os.Mkdir(filepath.Join(dir, "app"), 0o700))
	w.try(os.Chown(filepath.Join(dir, "app"), 54321, 54321))
	return filepath.Join(dir, "app", "login")
}

func TestWhatIsNoLoginIsNotOverwritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "login")
	for content, want := range map[string]string{
		"mine": "it is not overwritten", "\xff\xfem\x00": "is UTF-16", strings.Repeat("m", maxFile+1): "is it the right file?", "": "",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckKeep(path); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.9q: %v, want %q", content, err, want)
		}
	}
}
