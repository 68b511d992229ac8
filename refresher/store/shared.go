package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"iam-token-refresher/refresher/atomicfile"
)

// sharedError refuses a directory that others need: closing it, as is done with
// one of our own, would shut them out of /tmp or /etc.
type sharedError struct {
	dir  string
	mode fs.FileMode
	why  string
}

func (e *sharedError) Error() string {
	return fmt.Sprintf("%s is not for the state alone: %s, and others may enter it (mode %04o), so that closing it would shut them out: name a directory of its own, which is made if its parent exists (state_dir: %s)",
		e.dir, e.why, e.mode.Perm(), filepath.Join(e.dir, "iam-token-refresher-state"))
}

// notShared returns a [*sharedError] when others may enter dir, which is open as
// f, and it is not plain that nobody but us has a use for it.
func notShared(dir string, f *os.File, st fs.FileInfo) error {
	if st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	refuse := func(why string) error { return &sharedError{dir: dir, mode: st.Mode(), why: why} }
	if above, err := os.Stat(dir + "/.."); err == nil && os.SameFile(above, st) {
		return refuse("it is the root of the file system")
	}
	if st.Mode()&fs.ModeSticky != 0 {
		return refuse("everybody is meant to put files there (it is sticky)")
	}
	for {
		// A few at a time: the first of /usr/bin is enough.
		names, err := f.Readdirnames(64)
		for _, name := range names {
			if !written(name) {
				return refuse(fmt.Sprintf("it holds %q, which is not ours", name))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// written tells whether the store writes files of this name.
func written(name string) bool {
	if target, ok := atomicfile.TempOf(name); ok {
		name = target
	} else if before, _, ok := strings.Cut(name, suffix+corruptMark); ok {
		name = before + suffix
	}
	token, state := strings.CutSuffix(name, suffix)
	if !state {
		token, state = strings.CutSuffix(name, hooksSuffix)
	}
	return name == lockName || state && encoded(token)
}

// encoded tells whether [fileName] could have made name of a token's name.
func encoded(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '%' && !plain(c, i == 0) {
			return false
		}
	}
	return name != ""
}
