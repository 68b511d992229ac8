package store

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"iam-token-refresher/refresher"
)

func TestADirectoryThatOthersNeedIsRefusedAsItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		mode fs.FileMode
		says string
	}{
		"such as /tmp": {func(*testing.T, string) {}, 0o777 | fs.ModeSticky, "it is sticky"},
		"such as /etc": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o644))
		}, 0o755, `it holds "passwd", which is not ours`},
		"such as /var/lib": {func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "dpkg"), 0o755))
		}, 0o755, `it holds "dpkg", which is not ours`},
		"a group's": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, lockName), nil, 0o600))
			must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
		}, 0o710, `it holds "notes.txt", which is not ours`},
		"hidden files": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, ".profile"), nil, 0o600))
		}, 0o755, `it holds ".profile", which is not ours`},
		"another program's temporary file": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, ".passwd"+".itr-tmp0"), nil, 0o600))
		}, 0o755, "which is not ours"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.make(t, dir)
			must(t, os.Chmod(dir, c.mode))
			before, _ := os.ReadDir(dir)
			checked := Check(dir)
			s, err := Open(dir, Options{})
			if err == nil {
				_ = s.Close()
				t.Error("it was opened")
			}
			for call, err := range map[string]error{"Check": checked, "Open": err} {
				for _, want := range []string{dir, c.says, "name a directory of its own, which is made if its parent exists"} {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s does not say %q: %v", call, want, err)
					}
				}
			}
			if st, err := os.Stat(dir); err != nil || st.Mode()&^fs.ModeDir != c.mode {
				t.Errorf("the directory is %v now, %v", st.Mode(), err)
			}
			if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
				t.Errorf("it holds %v now, %v", after, err)
			}
		})
	}
}

func TestTheRootOfTheFileSystemIsRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("it is not ours")
	}
	// Not Open: if this fails, that closes the machine.
	if err := Check("/"); err == nil || !strings.Contains(err.Error(), "it is the root of the file system") {
		t.Errorf("Check: %v", err)
	}
}

func TestADirectoryWithOurFilesAloneIsClosed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	for _, token := range []string{"bot", "an other/one", "lock"} {
		save(t, s, version(token, 1), refresher.Finding{})
		must(t, s.SaveHooks(token, map[string]string{"file": "etag"}))
	}
	must(t, s.Close())
	for _, name := range []string{"bad.json", ".bot.json.itr-tmp0", ".bot.hooks.itr-tmp-0123456789abcdef"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	s = open(t, dir)
	if _, _, _, err := s.Load("bad", "fp"); err == nil { // is set aside
		t.Error("it was loaded")
	}
	must(t, s.Close())
	must(t, os.Chmod(dir, 0o755))
	must(t, Check(dir))
	var log bytes.Buffer
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	must(t, s.Close())
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the directory is %v, %v; the log says %s", st.Mode(), err, log.String())
	}
}
