package watch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// After any turmoil in a tree of directories and symlinks the next change must
// still be noticed: a watch that was lost unseen would show here.
func TestNoTurmoilMakesTheWatcherBlind(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			turmoil(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func turmoil(t *testing.T, random *rand.Rand) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	w := start(t)
	f := newFence(t, w)
	names := []string{"a", "b", "c"}
	place := func() string {
		path := dir
		for range 1 + random.IntN(3) {
			path = filepath.Join(path, names[random.IntN(len(names))])
		}
		return path
	}
	paths := []string{dir + "/a/b/c", dir + "/a/file", dir + "/b/c/file", dir + "/file"}
	seen := make([]chan string, len(paths))
	for i, path := range paths {
		seen[i] = make(chan string, 1000)
		w.Add(path, func() {
			content, _ := os.ReadFile(path)
			seen[i] <- string(content)
		})
	}
	for round := range 2 {
		for range 30 {
			// Most of these fail, in different ways each time.
			switch a, b := place(), place(); random.IntN(7) {
			case 0:
				_ = os.MkdirAll(a, 0o755)
			case 1:
				_ = os.RemoveAll(a)
			case 2:
				_ = os.Remove(a)
			case 3, 4:
				_ = os.Rename(a, b)
			case 5:
				_ = os.Symlink(b, a)
			case 6:
				_ = os.WriteFile(a, []byte(b), 0o644)
			}
			if random.IntN(10) == 0 {
				f.wait(t)
			}
		}
		f.wait(t)
		for i, path := range paths {
			// Make the path possible again, and change what it means.
			on := dir
			for _, name := range split(filepath.Dir(path)[len(dir):]) {
				on = filepath.Join(on, name)
				if st, err := os.Stat(on); err != nil || !st.IsDir() {
					must(t, os.RemoveAll(on))
				}
			}
			mkdir(t, filepath.Dir(path))
			must(t, os.RemoveAll(path))
			write(t, path, "quiet")
			f.wait(t)
			disturb(t, random, dir, path)
			f.wait(t)
			want := fmt.Sprint(round, path)
			write(t, path, want)
			limit := time.After(timeout)
			for found := ""; found != want; {
				select {
				case found = <-seen[i]:
				case <-limit:
					t.Fatalf("round %d: blind for %s", round, path)
				}
			}
		}
	}
}

// disturb changes a directory above path, faster than the watcher looks, and
// leaves path as it was.
func disturb(t *testing.T, random *rand.Rand, dir, path string) {
	t.Helper()
	up := filepath.Dir(path)
	for up != dir && filepath.Dir(up) != dir && random.IntN(2) == 0 {
		up = filepath.Dir(up)
	}
	if up == dir {
		return
	}
	switch random.IntN(3) {
	case 0:
		rename(t, up, dir+"/away")
		rename(t, dir+"/away", up)
	case 1:
		must(t, os.RemoveAll(up))
		mkdir(t, filepath.Dir(path))
		write(t, path, "quiet")
	case 2:
		rename(t, up, dir+"/away")
		mkdir(t, filepath.Dir(path))
		write(t, path, "quiet")
		must(t, os.RemoveAll(dir+"/away"))
	}
}
