package iam

import (
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
