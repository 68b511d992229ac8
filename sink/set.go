package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/atomicfile"
)

// SetOptions describe a directory whose files change together.
type SetOptions struct {
	Path  string   `yaml:"path" doc:"the directory, best one of its own; it is made if it is not there, and its parent must exist" check:"required,path,dir"`
	Mode  FileMode `yaml:"mode" doc:"quoted octal permissions of the files, whatever the umask (default \"0600\", with a group \"0640\"); who may read them may pass the directory"`
	Owner string   `yaml:"owner" doc:"user that the files belong to, by name or number (default: ours); only root may give files away"`
	Group string   `yaml:"group" doc:"group that the files belong to, by name or number (default: what a new file gets)"`
}

// Validate finds what can be told without looking at the system.
func (o SetOptions) Validate() error { return o.Mode.validateFile() }

// The files of a set.
const (
	setToken    = "token"      // the value alone
	setExpires  = "expires_at" // RFC 3339, empty when nobody knows
	setDocument = "token.json" // as of a file with format: json
)

func setFiles(dir string) []string {
	return []string{filepath.Join(dir, setToken), filepath.Join(dir, setExpires), filepath.Join(dir, setDocument)}
}

// SetDocument is the path of the file in a set that says all there is to say.
func (o SetOptions) SetDocument() string { return filepath.Join(o.Path, setDocument) }

// Set is a sink that keeps the current version in a directory of files that
// change together; see [atomicfile.WriteSet] for how it is read. It is a
// [refresher.Sink] and a [refresher.Verifier].
type Set struct {
	path string
	opt  atomicfile.Options

	// What the last Publish wrote, for files that we may not read ourselves.
	wrote     map[string]fs.FileInfo
	wroteETag string
}

var (
	_ refresher.Sink     = (*Set)(nil)
	_ refresher.Verifier = (*Set)(nil)
)

// NewSet makes a sink of valid options. It touches nothing; an unknown user or
// group is a [*refresher.Invalid].
func NewSet(o SetOptions, accounts *Accounts) (*Set, error) {
	opt, err := place{mode: o.Mode, owner: o.Owner, group: o.Group}.options(accounts)
	if err != nil {
		return nil, err
	}
	return &Set{path: o.Path, opt: opt}, nil
}

// ID implements [refresher.Sink].
func (s *Set) ID() string { return "set:" + s.path }

// Paths are what others may disturb, for who watches it.
func (s *Set) Paths() []string { return setFiles(s.path) }

// Check implements [refresher.Sink]. It makes and removes a temporary directory.
func (s *Set) Check(context.Context) error {
	return atomicfile.CheckSet(s.path, map[string][]byte{setToken: nil, setExpires: nil, setDocument: nil}, s.opt)
}

func renderSet(v refresher.Version) (map[string][]byte, error) {
	document, err := renderJSON(v)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{setToken: []byte(v.Value.Reveal()), setExpires: []byte(expiry(v)), setDocument: document}, nil
}

// Publish implements [refresher.Sink]. A set that holds v already is left
// alone. On a disk that hangs it outlives ctx.
func (s *Set) Publish(ctx context.Context, v refresher.Version) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	files, err := renderSet(v)
	if err != nil {
		return fmt.Errorf("render %s: %w", s.path, err)
	}
	if s.holds(v, files) == nil {
		return nil
	}
	if err := atomicfile.WriteSet(s.path, files, s.opt); err != nil {
		return err
	}
	s.wrote, s.wroteETag = nil, ""
	if s.opt.UID >= 0 && s.opt.UID != os.Geteuid() {
		if wrote, err := s.look(); err == nil {
			s.wrote, s.wroteETag = wrote, v.ETag()
		}
	}
	return nil
}

// Holds implements [refresher.Verifier].
func (s *Set) Holds(_ context.Context, v refresher.Version) error {
	files, err := renderSet(v)
	if err != nil {
		return fmt.Errorf("render %s: %w", s.path, err)
	}
	return s.holds(v, files)
}

func (s *Set) holds(v refresher.Version, files map[string][]byte) error {
	err := atomicfile.HoldsSet(s.path, files, s.opt)
	if errors.Is(err, fs.ErrPermission) && s.wroteETag == v.ETag() && s.untouched() {
		return nil
	}
	return err
}

// look returns the files as a reader finds them.
func (s *Set) look() (map[string]fs.FileInfo, error) {
	found := map[string]fs.FileInfo{}
	for _, path := range s.Paths() {
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		found[path] = st
	}
	return found, nil
}

// untouched tells whether the files are those that we wrote and gave to a user
// whose files we may not read.
func (s *Set) untouched() bool {
	now, err := s.look()
	if err != nil || len(s.wrote) == 0 {
		return false
	}
	for path, st := range now {
		if !sameFile(st, s.wrote[path]) {
			return false
		}
	}
	return true
}

// Close implements [refresher.Sink]; the files stay.
func (s *Set) Close(context.Context) error { return nil }
