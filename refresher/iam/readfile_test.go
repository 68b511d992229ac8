package iam

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileIsReadWithoutAByteOrderMarkAndUTF16IsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.json")
	for content, want := range map[string]string{"{}": "{}", "\ufeff{}": "{}", "\xff\xfe{\x00}\x00": "key file " + path + " is UTF-16"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := readFile("key file", path)
		if err != nil {
			got = []byte(err.Error())
		}
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("%q is read as %q, want %q", content, got, want)
		}
	}
}

func TestTheGroupOfRootsFileIsHowWeReadIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode      fs.FileMode
		owner, us int
		want      fs.FileMode
	}{
		{0o600, 1000, 1000, 0},
		{0o640, 1000, 1000, 0o040},
		{0o440, 0, 65532, 0}, // a Secret with an fsGroup
		{0o444, 0, 65532, 0o004},
		{0o440, 0, 0, 0o040},
		{0o440, 1000, 65532, 0o040},
	} {
		if got := exposure(c.mode, c.owner, c.us); got != c.want {
			t.Errorf("mode %04o of user %d, read by %d: %04o is exposed, want %04o", c.mode, c.owner, c.us, got, c.want)
		}
	}
}
