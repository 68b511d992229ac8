package watch

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAFileIsReadToItsEndWhateverItsSizeWas(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	for _, is := range []int{0, 1, 4095, 4096, 4097, 5000, 8192, 10000} {
		content := bytes.Repeat([]byte("x"), is)
		write(t, path, string(content))
		for _, was := range []int64{0, 1, 4095, 4096, 4097, int64(is), int64(is) + 1} {
			n, sum, err := hash(path, was)
			if want := maphash.Bytes(seed, content); n != int64(is) || sum != want || err != nil {
				t.Errorf("of %d bytes that were %d it read %d (the same: %t), %v", is, was, n, sum == want, err)
			}
		}
	}
}

func TestAFileOfWhichEverythingIsToldIsNotRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "secret")
	before := resolve(path, nil)
	must(t, os.Chtimes(path, time.Time{}, time.Unix(0, before.stat.Mtim.Nano())))
	first, byContent := identify(before, Events), identify(before, 0)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("change")
	must(t, errors.Join(err, f.Close(), os.Chtimes(path, time.Time{}, time.Unix(0, before.stat.Mtim.Nano()))))
	if identify(before, Events) != first {
		t.Error("it was read")
	}
	if identify(before, 0) == byContent {
		t.Error("the content is the same")
	}
	after := resolve(path, nil)
	after.stat.Ctim = before.stat.Ctim
	after.stat.Ctim.Nsec ^= 1 // the kernel counts it by the tick
	if identify(after, Events) == first {
		t.Error("a change of the same size and time goes unnoticed")
	}
	must(t, os.Truncate(path, 0))
	if !identify(resolve(path, nil), Events).passing() {
		t.Error("an empty file is not told from others")
	}
}

func TestWhatAPathMeansIsToldWithItsOwnStat(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	mkdir(t, dir+"/sub")
	write(t, dir+"/file", "content")
	for name, to := range map[string]string{
		"file": "file", "directory": "sub", "itself": ".", "above": "sub/..", "root": "/", "far": dir + "/sub/../file",
	} {
		path := filepath.Join(dir, "to "+name)
		link(t, to, path)
		r := resolve(path, nil)
		direct, err := filepath.EvalSymlinks(path)
		must(t, err)
		if want := resolve(direct, nil); r.target != direct || r.stat.Ino != want.stat.Ino || fmt.Sprint(identify(r, 0)) != fmt.Sprint(identify(want, 0)) {
			t.Errorf("%s: %s, inode %d, want %s, inode %d", name, r.target, r.stat.Ino, direct, want.stat.Ino)
		}
	}
}
