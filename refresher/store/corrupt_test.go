package store

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"iam-token-refresher/refresher"
)

func corrupts(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"+corruptMark+"*"))
	must(t, err)
	return found
}

func TestWhatCannotBeTrustedIsSetAside(t *testing.T) {
	t.Parallel()
	v := version("bot", 3)
	good, err := encode(newRecord("bot", "fp", v, refresher.Finding{}))
	must(t, err)
	file := func(content string, mode fs.FileMode) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(content), mode))
			must(t, os.Chmod(path, mode))
		}
	}
	other, err := encode(newRecord("other", "fp", v, refresher.Finding{}))
	must(t, err)
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		why  string
	}{
		"an empty file":        {file("", 0o600), "it is empty"},
		"only zeros":           {file("\x00\x00\x00\x00", 0o600), "it is not JSON"},
		"not JSON":             {file("t1.abc", 0o600), "it is not JSON"},
		"a newer format":       {file(`{"format":2,"sha256":"","state":{}}`, 0o600), "its format is 2"},
		"no format":            {file(`{}`, 0o600), "its format is 0"},
		"another value":        {file(strings.Replace(string(good), `"n":3`, `"n":9`, 1), 0o600), "its checksum is wrong"},
		"something after it":   {file(string(good)+"{}", 0o600), "it is not JSON"},
		"a space after it":     {file(string(good)+" ", 0o600), "its checksum is wrong"},
		"another token's file": {file(string(other), 0o600), "another token"},
		"no version":           {file(string(seal([]byte(`{"token":"bot"}`))), 0o600), "no version"},
		"an unknown verdict":   {file(string(seal([]byte(`{"token":"bot","verdict":"maybe"}`))), 0o600), "does not know"},
		"a file for all":       {file(string(good), 0o644), "its mode is 0644"},
		"a group's file":       {file(string(good), 0o620), "its mode is 0620"},
		"a huge file": {func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Truncate(path, maxSize+1))
		}, "bytes long"},
		"a directory": {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "not a regular file"},
		"a FIFO":      {func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) }, "not a regular file"},
		"a symbolic link": {func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".real", good, 0o600))
			must(t, os.Symlink(path+".real", path))
		}, "symbolic link"},
		"a stranger's file": {func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			must(t, os.WriteFile(path, good, 0o600))
			must(t, os.Chown(path, 12345, -1))
		}, "belongs to user 12345"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			path := filepath.Join(dir, "bot.json")
			c.make(t, path)
			_, _, ok, err := s.Load("bot", "fp")
			if ok || err == nil {
				t.Fatalf("ok %v, error %v", ok, err)
			}
			aside := corrupts(t, dir)
			if len(aside) != 1 {
				t.Fatalf("set aside: %q", aside)
			}
			for _, want := range []string{`"bot"`, c.why, aside[0]} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if _, _, ok, err := s.Load("bot", "fp"); ok || err != nil {
				t.Errorf("the next time: ok %v, error %v", ok, err)
			}
			save(t, s, v, refresher.Finding{})
			mustLoad(t, s, v)
		})
	}
}

func TestOnlyTheNewestCorruptFilesAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 2 * keepCorrupt {
		must(t, os.WriteFile(filepath.Join(dir, "bot.json"), fmt.Appendf(nil, "%d", i), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "bot.jsonet.json"), nil, 0o600))
		if _, _, _, err := s.Load("bot", "fp"); err == nil {
			t.Fatal("loaded")
		}
		if i == 0 {
			if _, _, _, err := s.Load("bot.jsonet", "fp"); err == nil {
				t.Fatal("loaded")
			}
		}
	}
	kept := corrupts(t, dir)
	if len(kept) != keepCorrupt+1 { // and the other token's
		t.Fatalf("kept %q", kept)
	}
	for i, path := range kept[:keepCorrupt] {
		content, err := os.ReadFile(path)
		must(t, err)
		if want := fmt.Sprint(keepCorrupt + i); string(content) != want {
			t.Errorf("kept number %s, want %s", content, want)
		}
	}
	if got := s.tokens(t); len(got) != 1 {
		t.Errorf("tokens %q", got)
	}
}

func TestNoDamageYieldsAWrongVersion(t *testing.T) {
	t.Parallel()
	v := version("bot", 3)
	good, err := encode(newRecord("bot", "fp", v, refresher.Finding{Verdict: refresher.Accepted, Reason: "200"}))
	must(t, err)
	want, err := decode(good, "bot")
	must(t, err)
	if want.version().Value != v.Value {
		t.Fatal("the undamaged file gives another value")
	}
	refuse := func(what string, data []byte) {
		t.Helper()
		if _, err := decode(data, "bot"); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for n := range good {
		refuse(fmt.Sprintf("cut to %d bytes", n), good[:n])
		refuse(fmt.Sprintf("zeros from byte %d", n), append(bytes.Clone(good[:n]), make([]byte, len(good)-n)...))
		refuse(fmt.Sprintf("without byte %d", n), append(bytes.Clone(good[:n]), good[n+1:]...))
		refuse(fmt.Sprintf("byte %d twice", n), append(bytes.Clone(good[:n+1]), good[n:]...))
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[n] ^= 1 << bit
			refuse(fmt.Sprintf("bit %d of byte %d flipped", bit, n), bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(newRecord("bot", "fp", version("bot", 3), refresher.Finding{Verdict: refresher.Accepted}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"sha256":"","state":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode(data, "bot")
		if err != nil {
			return
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if r2, err := decode(again, "bot"); err != nil || r2.version() != r.version() {
			t.Errorf("%+v became %+v (%v)", r, r2, err)
		}
	})
}
