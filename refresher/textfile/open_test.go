package textfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOnlyRegularFilesAreReadAndNothingIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, []byte("text"), 0o600), os.Symlink(file, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		file: nil, link: nil, fifo: ErrNotRegular, os.DevNull: ErrNotRegular, dir: syscall.EISDIR, file + "2": os.ErrNotExist,
	} {
		got, err := Read(path)
		if !errors.Is(err, want) || err == nil && string(got) != "text" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, _, err := Open(link, syscall.O_NOFOLLOW); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link that is not to be followed: %v", err)
	}
}
