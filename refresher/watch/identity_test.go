package watch

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"testing"
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
