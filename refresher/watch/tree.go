package watch

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// tree is the set of watched directories and who waits for which names in them.
// It is not safe for concurrent use.
type tree struct {
	n   notifier // nil: there is none
	err error    // why there is none

	// By inode, because one inode has one inotify watch, whatever path it was
	// added by (bind mounts); by path, because that is how events name it.
	byID   map[fileID]*dir
	byPath map[string]*dir

	// turns grows with every event taken and every directory newly watched. See
	// link.
	turns uint64

	// orphans waited for a directory that was dropped: they must be looked at.
	orphans []*entry
}

// dir is a directory that at least one entry came through.
type dir struct {
	path    string
	id      fileID
	err     error // why it is not watched; nil: it is
	dead    bool  // not in the tree any more
	waiting map[string][]*entry
}

// ref is an entry's interest in a name.
type ref struct {
	dir  *dir
	name string
}

func newTree() tree {
	return tree{byID: make(map[fileID]*dir), byPath: make(map[string]*dir)}
}

// link makes e wait for the names of steps and for nothing else. sure tells that
// nothing can have changed unseen since steps were found: e waited for them
// already, or might as well have, because t.turns is what it was before they
// were looked for. Then all their directories had been watched by that time (one
// dropped since is newly watched here), so that every change has its event, and
// none was taken since: it is still to come and will find e waiting. err is why
// one of the directories cannot be watched.
func (t *tree) link(e *entry, steps []step, turns uint64) (sure bool, err error) {
	same := len(steps) == len(e.steps)
	for i := 0; same && i < len(steps); i++ {
		s, r := steps[i], e.steps[i]
		same = !r.dir.dead && r.dir.id == s.id && r.name == s.name
	}
	if !same {
		refs := make([]ref, len(steps))
		for i, s := range steps {
			d := t.dir(s)
			d.waiting[s.name] = append(d.waiting[s.name], e)
			refs[i] = ref{d, s.name}
		}
		// The old ones last: a directory that stays keeps its watch.
		t.unlink(e, e.steps)
		e.steps = refs
	}
	for _, r := range e.steps {
		if r.dir.err == nil {
			continue
		}
		if r.dir.err = t.watch(r.dir); r.dir.err == nil {
			same = false
		} else {
			err = r.dir.err
		}
	}
	return same || t.turns == turns, err
}

// unlink ends e's waiting for refs and the watches that nobody needs then.
func (t *tree) unlink(e *entry, refs []ref) {
	for _, r := range refs {
		if r.dir.dead {
			continue
		}
		waiting := r.dir.waiting[r.name]
		if i := slices.Index(waiting, e); i >= 0 {
			waiting[i] = waiting[len(waiting)-1]
			waiting[len(waiting)-1] = nil
			waiting = waiting[:len(waiting)-1]
		}
		if len(waiting) > 0 {
			r.dir.waiting[r.name] = waiting
			continue
		}
		delete(r.dir.waiting, r.name)
		if len(r.dir.waiting) == 0 {
			t.drop(r.dir)
		}
	}
}

// dir returns the directory of a step, watched if that is possible.
func (t *tree) dir(s step) *dir {
	if d := t.byID[s.id]; d != nil {
		return d
	}
	if old := t.byPath[s.dir]; old != nil {
		t.drop(old)
	}
	d := &dir{path: s.dir, id: s.id, waiting: make(map[string][]*entry)}
	d.err = t.watch(d)
	t.byID[d.id] = d
	t.byPath[d.path] = d
	return d
}

func (t *tree) watch(d *dir) error {
	t.turns++
	if t.n == nil {
		return t.err
	}
	if err := t.n.Add(d.path); err != nil {
		return &fs.PathError{Op: "watch", Path: d.path, Err: err}
	}
	return nil
}

// drop forgets a directory: nobody waits for it, or its path may mean another
// one now. Who waited becomes an orphan.
func (t *tree) drop(d *dir) {
	if t.n != nil {
		_ = t.n.Remove(d.path) // the kernel may have done so already
	}
	d.dead = true
	delete(t.byID, d.id)
	delete(t.byPath, d.path)
	for _, es := range d.waiting {
		t.orphans = append(t.orphans, es...)
	}
	d.waiting = nil
}

// disconnect forgets the notifier, and that anything was watched by it.
func (t *tree) disconnect(err error) {
	t.n, t.err = nil, err
	for _, d := range t.byID {
		d.err = err
	}
}

// changed takes an event. It returns who waits for the name, and makes orphans
// where a directory was replaced.
func (t *tree) changed(ev fsnotify.Event) []*entry {
	t.turns++
	path := ev.Name
	if strings.HasPrefix(path, "//") {
		path = path[1:] // fsnotify's name of what is in the root
	}
	// Its watch may have ended. One that another directory was renamed over is
	// told by its inode the next time that somebody comes through.
	if d := t.byPath[path]; d != nil && ev.Op&(fsnotify.Remove|fsnotify.Rename) != 0 {
		t.drop(d)
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return nil
	}
	if d := t.byPath[path[:max(i, 1)]]; d != nil {
		return d.waiting[path[i+1:]]
	}
	return nil
}
