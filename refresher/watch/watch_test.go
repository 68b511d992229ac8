package watch

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// timeout is for machines that are busy with other things.
const timeout = 20 * time.Second

// observed is a path and the calls that its changes brought.
type observed struct {
	calls  chan time.Time
	remove func()
}

func observe(t *testing.T, w *Watcher, path string, flags ...Flag) observed {
	t.Helper()
	o := observed{calls: make(chan time.Time, 1000)}
	o.remove = w.Add(path, func() { o.calls <- time.Now() }, flags...)
	return o
}

func (o observed) mustBeCalled(t *testing.T, why string) (at time.Time) {
	t.Helper()
	select {
	case at = <-o.calls:
	case <-time.After(timeout):
		t.Fatalf("not noticed: %s", why)
	}
	return at
}

// fence is a file whose changes are reported after all that changed before,
// but for what went missing or became empty.
type fence struct {
	path string
	n    int
	observed
}

func newFence(t *testing.T, w *Watcher) *fence {
	t.Helper()
	f := &fence{path: filepath.Join(t.TempDir(), "fence")}
	write(t, f.path, "0")
	f.observed = observe(t, w, f.path)
	return f
}

func (f *fence) wait(t *testing.T) {
	t.Helper()
	f.n++
	replace(t, f.path, strconv.Itoa(f.n))
	f.mustBeCalled(t, "the fence")
}

func start(t *testing.T) *Watcher {
	t.Helper()
	w, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(path, 0o755))
}

func link(t *testing.T, to, path string) {
	t.Helper()
	must(t, os.Symlink(to, path))
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.Rename(from, to))
}

func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	rename(t, path+".new", path)
}

// publishVolume does what the kubelet does to a mounted secret.
func publishVolume(t *testing.T, dir, version, content string) {
	t.Helper()
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data)
	mkdir(t, filepath.Join(dir, ".."+version))
	write(t, filepath.Join(dir, ".."+version, "file"), content)
	link(t, ".."+version, filepath.Join(dir, "..data_tmp"))
	rename(t, filepath.Join(dir, "..data_tmp"), data)
	if old == "" {
		link(t, "..data/file", filepath.Join(dir, "file"))
	} else {
		must(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

// act is something that happens, and how many calls it must bring.
type act struct {
	name  string
	do    func(t *testing.T, dir string)
	calls int
}

// The path under test is dir/app/file throughout.
var scenes = []struct {
	name  string
	flags []Flag
	setup func(t *testing.T, dir string)
	acts  []act
}{
	{
		name:  "a file that is replaced by rename",
		setup: plain,
		acts: []act{
			{"replaced", func(t *testing.T, dir string) { replace(t, dir+"/app/file", "two") }, 1},
			{"replaced again", func(t *testing.T, dir string) { replace(t, dir+"/app/file", "three") }, 1},
			{"replaced by the same bytes", func(t *testing.T, dir string) { replace(t, dir+"/app/file", "three") }, 0},
		},
	},
	{
		name: "a Kubernetes volume",
		setup: func(t *testing.T, dir string) {
			mkdir(t, dir+"/app")
			publishVolume(t, dir+"/app", "v1", "one")
		},
		acts: []act{
			{"swapped", func(t *testing.T, dir string) { publishVolume(t, dir+"/app", "v2", "two") }, 1},
			{"swapped again", func(t *testing.T, dir string) { publishVolume(t, dir+"/app", "v3", "three") }, 1},
			{"swapped for the same bytes", func(t *testing.T, dir string) { publishVolume(t, dir+"/app", "v4", "three") }, 0},
			{"swapped once more", func(t *testing.T, dir string) { publishVolume(t, dir+"/app", "v5", "five") }, 1},
		},
	},
	{
		name:  "an editor",
		setup: plain,
		acts: []act{
			{"truncates and writes", func(t *testing.T, dir string) { write(t, dir+"/app/file", "two") }, 1},
			{"keeps a backup", func(t *testing.T, dir string) {
				rename(t, dir+"/app/file", dir+"/app/file~")
				write(t, dir+"/app/file", "three")
				must(t, os.Remove(dir+"/app/file~"))
			}, 1},
			{"appends in small pieces", func(t *testing.T, dir string) {
				f, err := os.OpenFile(dir+"/app/file", os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				for range 100 {
					_, err := f.WriteString("x")
					must(t, err)
				}
				must(t, f.Close())
			}, 1},
			{"saves without a change", func(t *testing.T, dir string) {
				content, err := os.ReadFile(dir + "/app/file")
				must(t, err)
				write(t, dir+"/app/file", string(content))
			}, 0},
		},
	},
	{
		name:  "a file that goes and comes",
		setup: plain,
		acts: []act{
			{"removed", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/app/file")) }, 1},
			{"put back", func(t *testing.T, dir string) { write(t, dir+"/app/file", "one") }, 1},
			{"removed and put back at once", func(t *testing.T, dir string) {
				must(t, os.Remove(dir+"/app/file"))
				write(t, dir+"/app/file", "one")
			}, 0},
			{"renamed away", func(t *testing.T, dir string) { rename(t, dir+"/app/file", dir+"/file") }, 1},
			{"renamed back", func(t *testing.T, dir string) { rename(t, dir+"/file", dir+"/app/file") }, 1},
		},
	},
	{
		name:  "what is no change",
		setup: plain,
		acts: []act{
			{"touched", func(t *testing.T, dir string) { must(t, os.Chtimes(dir+"/app/file", time.Now(), time.Unix(1, 0))) }, 0},
			{"another mode", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/app/file", 0o600)) }, 0},
			{"read", func(t *testing.T, dir string) {
				_, err := os.ReadFile(dir + "/app/file")
				must(t, err)
			}, 0},
			{"a neighbour", func(t *testing.T, dir string) { write(t, dir+"/app/other", "x") }, 0},
			{"but a real one is", func(t *testing.T, dir string) { write(t, dir+"/app/file", "two") }, 1},
		},
	},
	{
		name:  "attributes, when they matter",
		flags: []Flag{Attrs},
		setup: plain,
		acts: []act{
			{"another mode", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/app/file", 0o600)) }, 1},
			{"touched", func(t *testing.T, dir string) { must(t, os.Chtimes(dir+"/app/file", time.Now(), time.Unix(1, 0))) }, 0},
			{"moved behind a symlink", func(t *testing.T, dir string) {
				rename(t, dir+"/app/file", dir+"/file")
				link(t, "../file", dir+"/app/file")
			}, 1},
		},
	},
	{
		name:  "the directory",
		setup: plain,
		acts: []act{
			{"removed", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/app")) }, 1},
			{"made again, empty", func(t *testing.T, dir string) { mkdir(t, dir+"/app") }, 0},
			{"the file written", func(t *testing.T, dir string) { write(t, dir+"/app/file", "two") }, 1},
			{"replaced by another", func(t *testing.T, dir string) {
				mkdir(t, dir+"/app.new")
				write(t, dir+"/app.new/file", "three")
				rename(t, dir+"/app", dir+"/app.old")
				rename(t, dir+"/app.new", dir+"/app")
				must(t, os.RemoveAll(dir+"/app.old"))
			}, 1},
			{"a change in the new one", func(t *testing.T, dir string) { replace(t, dir+"/app/file", "four") }, 1},
			{"moved away and back", func(t *testing.T, dir string) {
				rename(t, dir+"/app", dir+"/app.old")
				rename(t, dir+"/app.old", dir+"/app")
			}, 0},
			{"a change after that", func(t *testing.T, dir string) { write(t, dir+"/app/file", "five") }, 1},
			{"removed and made again with everything", func(t *testing.T, dir string) {
				must(t, os.RemoveAll(dir+"/app"))
				mkdir(t, dir+"/app")
				write(t, dir+"/app/file", "six")
			}, 1},
			{"a change after that, too", func(t *testing.T, dir string) { write(t, dir+"/app/file", "seven") }, 1},
			{"emptied", func(t *testing.T, dir string) { must(t, os.Remove(dir+"/app/file")) }, 1},
			{"replaced while empty", func(t *testing.T, dir string) {
				mkdir(t, dir+"/app.new")
				write(t, dir+"/app.new/file", "eight")
				must(t, unix.Rename(dir+"/app.new", dir+"/app")) // which os.Rename refuses
			}, 1},
			{"a change after even that", func(t *testing.T, dir string) { write(t, dir+"/app/file", "nine") }, 1},
		},
	},
	{
		name: "a directory further up",
		setup: func(t *testing.T, dir string) {
			mkdir(t, dir+"/v1/a/b")
			write(t, dir+"/v1/a/b/file", "one")
			mkdir(t, dir+"/app")
			link(t, dir+"/v1/a/b/file", dir+"/app/file")
		},
		acts: []act{
			{"replaced", func(t *testing.T, dir string) {
				mkdir(t, dir+"/v2/a/b")
				write(t, dir+"/v2/a/b/file", "two")
				rename(t, dir+"/v1", dir+"/v0")
				rename(t, dir+"/v2", dir+"/v1")
			}, 1},
			{"a change below the new one", func(t *testing.T, dir string) { write(t, dir+"/v1/a/b/file", "three") }, 1},
			{"a change below the old one", func(t *testing.T, dir string) { write(t, dir+"/v0/a/b/file", "x") }, 0},
		},
	},
	{
		name: "a directory that is a symlink",
		setup: func(t *testing.T, dir string) {
			mkdir(t, dir+"/v1")
			write(t, dir+"/v1/file", "one")
			mkdir(t, dir+"/v2")
			write(t, dir+"/v2/file", "two")
			link(t, "v1", dir+"/app")
		},
		acts: []act{
			{"pointed elsewhere", func(t *testing.T, dir string) {
				link(t, dir+"/v2", dir+"/app.new") // absolute this time
				rename(t, dir+"/app.new", dir+"/app")
			}, 1},
			{"a change where it points", func(t *testing.T, dir string) { replace(t, dir+"/v2/file", "three") }, 1},
			{"a change where it pointed", func(t *testing.T, dir string) { replace(t, dir+"/v1/file", "x") }, 0},
			{"its target removed", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/v2")) }, 1},
			{"its target made again", func(t *testing.T, dir string) {
				mkdir(t, dir+"/v2")
				write(t, dir+"/v2/file", "four")
			}, 1},
		},
	},
	{
		name:  "a file that is not there yet",
		setup: func(*testing.T, string) {},
		acts: []act{
			{"made with its directory", func(t *testing.T, dir string) {
				mkdir(t, dir+"/app")
				write(t, dir+"/app/file", "one")
			}, 1},
			{"changed", func(t *testing.T, dir string) { write(t, dir+"/app/file", "two") }, 1},
		},
	},
	{
		name:  "something else in the file's place",
		setup: plain,
		acts: []act{
			{"a directory", func(t *testing.T, dir string) {
				must(t, os.Remove(dir+"/app/file"))
				mkdir(t, dir+"/app/file")
			}, 1},
			{"a file in the directory", func(t *testing.T, dir string) { write(t, dir+"/app/file/x", "x") }, 0},
			{"a symlink to itself", func(t *testing.T, dir string) {
				must(t, os.RemoveAll(dir+"/app/file"))
				link(t, "file", dir+"/app/file")
			}, 1},
			{"a file again", func(t *testing.T, dir string) { replace(t, dir+"/app/file", "two") }, 1},
			{"a very large one", func(t *testing.T, dir string) {
				must(t, os.Truncate(dir+"/app/file", 3*maxHashed))
			}, 1},
			{"a change in the very large one", func(t *testing.T, dir string) {
				must(t, os.Truncate(dir+"/app/file", 4*maxHashed))
			}, 1},
		},
	},
}

func plain(t *testing.T, dir string) {
	mkdir(t, dir+"/app")
	write(t, dir+"/app/file", "one")
}

func TestEachChangeIsReportedOnce(t *testing.T) {
	t.Parallel()
	for _, scene := range scenes {
		t.Run(scene.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			scene.setup(t, dir)
			w := start(t)
			o := observe(t, w, dir+"/app/file", scene.flags...)
			f := newFence(t, w)
			for _, act := range scene.acts {
				began := time.Now()
				act.do(t, dir)
				for range act.calls {
					took := o.mustBeCalled(t, act.name).Sub(began)
					if took > time.Second { // a promise, but of a machine that has time
						t.Logf("%s: noticed after %v", act.name, took)
					}
				}
				f.wait(t)
				for len(o.calls) > 0 {
					<-o.calls
					t.Errorf("%s: more than %d calls", act.name, act.calls)
				}
			}
		})
	}
}

func TestPathsOfOneDirectoryShareOneWatchThatEndsWithTheLast(t *testing.T) {
	t.Parallel()
	w := start(t)
	watches := func() int { return len(w.tree.n.(*fsNotifier).WatchList()) }
	dir := t.TempDir()
	removes := make([]func(), 100)
	for i := range removes {
		removes[i] = w.Add(filepath.Join(dir, "app", string(rune('a'+i))), func() {})
	}
	up := len(split(dir)) + 1 // and the root; dir/app is missing
	if got := watches(); got != up {
		t.Errorf("%d watches for the files of a missing directory, want %d", got, up)
	}
	mkdir(t, dir+"/app")
	f := newFence(t, w)
	f.wait(t)
	more := w.Add(dir+"/app/more", func() {})
	f.remove()
	if got := watches(); got != up+1 {
		t.Errorf("%d watches for 101 files of a directory, want %d", got, up+1)
	}
	more()
	for _, remove := range removes[1:] {
		remove()
		remove() // again, which must take nothing from the others
	}
	if got := watches(); got != up+1 {
		t.Errorf("%d watches for the last file, want %d", got, up+1)
	}
	removes[0]()
	if got := watches(); got != 0 {
		t.Errorf("%d watches for nothing", got)
	}
	if n := len(w.entries) + len(w.dirty) + len(w.tree.byID) + len(w.tree.byPath); n != 0 {
		t.Errorf("%d things are kept for nothing", n)
	}
}

func TestAWatchSurvivesTheRemovalOfAnotherOnTheSamePath(t *testing.T) {
	t.Parallel()
	w := start(t)
	path := filepath.Join(t.TempDir(), "file")
	a, b := observe(t, w, path), observe(t, w, path)
	write(t, path, "one")
	a.mustBeCalled(t, "a change")
	b.mustBeCalled(t, "a change")
	a.remove()
	write(t, path, "two")
	b.mustBeCalled(t, "a change")
	newFence(t, w).wait(t)
	if len(a.calls) != 0 {
		t.Error("called after remove")
	}
}

func TestACallbackMayAddAndRemove(t *testing.T) {
	t.Parallel()
	w := start(t)
	dir := t.TempDir()
	called := make(chan string, 2)
	var remove func()
	remove = w.Add(dir+"/a", func() {
		w.Add(dir+"/b", func() { called <- "b" })
		remove()
		called <- "a"
	})
	for _, name := range []string{"a", "b"} {
		write(t, filepath.Join(dir, name), "x")
		select {
		case got := <-called:
			if got != name {
				t.Fatalf("got %s, want %s", got, name)
			}
		case <-time.After(timeout):
			t.Fatalf("%s was not noticed", name)
		}
	}
}

func TestARelativePathIsMeantFromWhereWeAre(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	w := start(t)
	o := observe(t, w, "file")
	write(t, filepath.Join(dir, "file"), "x")
	o.mustBeCalled(t, "the file")
}

// Not parallel: it counts the process's descriptors.
func TestCloseLeavesNothingOpen(t *testing.T) {
	before := descriptors(t)
	for range 20 {
		w, err := New(Options{})
		must(t, err)
		w.Add(t.TempDir()+"/file", func() {})
		must(t, w.Close())
		must(t, w.Close())
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(fds)
}
