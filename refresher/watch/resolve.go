package watch

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks a path may lead over, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// fileID is the identity of an inode.
type fileID struct{ dev, ino uint64 }

// step is one name that was looked up on the way of a path.
type step struct {
	dir  string // without symlinks
	id   fileID // of dir
	name string
}

// route is the way of a path over all its symlinks.
type route struct {
	steps  []step      // the last is where the way ended, also when it did so early
	target string      // without symlinks; empty when err says why there is none
	stat   unix.Stat_t // of target then: what changes later is still to be noticed
	link   bool        // the path itself is a symlink
	parent *stretch    // to the directory of the path; nil: it did not come so far
	err    error
}

// stretch is the part of a way that all the paths in one directory share.
type stretch struct {
	steps []step
	dir   string // where it ends, without symlinks
	id    fileID // of dir
	links int
}

// resolve goes the way of path, name by name. The kernel would do it in one
// call, but does not tell which directories it came through. With known, which
// is not changed, it goes only the rest of it.
func resolve(path string, known *stretch) route {
	r := route{steps: make([]step, 0, 8)}
	rest := split(path)
	own := len(rest) // how many at the end of rest are path's own and no symlink's
	dir, st := "/", &r.stat
	var id fileID
	links := 0
	if known == nil || own == 0 {
		if r.err = lstat(dir, st); r.err != nil {
			return r
		}
		id = idOf(st)
	} else {
		r.steps = append(r.steps, known.steps...)
		dir, id, links = known.dir, known.id, known.links
		rest, own = rest[own-1:], 1
	}
	for len(rest) > 0 {
		last := len(rest) == own && own == 1
		if last {
			r.parent = &stretch{r.steps[:len(r.steps):len(r.steps)], dir, id, links}
		}
		own = min(own, len(rest)-1)
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			dir = filepath.Dir(dir)
			if r.err = lstat(dir, st); r.err != nil {
				return r
			}
			id = idOf(st)
			continue
		}
		r.steps = append(r.steps, step{dir, id, name})
		full := filepath.Join(dir, name)
		if r.err = lstat(full, st); r.err != nil {
			return r
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if links++; links > maxLinks {
				r.err = unix.ELOOP
				return r
			}
			var to string
			if to, r.err = os.Readlink(full); r.err != nil {
				return r
			}
			r.link = r.link || last
			if filepath.IsAbs(to) {
				dir = "/"
				if r.err = lstat(dir, st); r.err != nil {
					return r
				}
				id = idOf(st)
			}
			rest = append(split(to), rest...)
		case unix.S_IFDIR:
			dir, id = full, idOf(st)
			if len(rest) == 0 {
				r.target = full
			}
		default:
			if len(rest) > 0 {
				r.err = unix.ENOTDIR
				return r
			}
			r.target = full
		}
	}
	if r.target == "" {
		r.target = dir // the path is "/", or ended in ".."
		r.err = lstat(dir, st)
	}
	return r
}

// split cuts a path into its names. A ".." stays: what it means depends on the
// symlinks before it.
func split(path string) []string {
	names := strings.Split(path, "/")
	kept := names[:0]
	for _, n := range names {
		if n != "" && n != "." {
			kept = append(kept, n)
		}
	}
	return kept
}

func lstat(path string, st *unix.Stat_t) error {
	_, err := again(func() (int, error) { return 0, unix.Lstat(path, st) })
	return err
}

// again makes a system call until no signal interrupts it.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }
