package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/atomicfile"
)

// FileOptions describe a file that holds the value of a token.
type FileOptions struct {
	Path     string   `yaml:"path" doc:"the file; its directory must exist and be writable" check:"required,path"`
	Format   string   `yaml:"format" doc:"raw: the value alone, without a newline (default); json: an object with name, value, type, expires_at, lineage, version and published_at; header: a line for curl -H @FILE; template: the text in template"`
	Template string   `yaml:"template" doc:"text with {{.Value}}, {{.Name}}, {{.Type}}, {{.ExpiresAt}} (RFC 3339), {{.Version}}, {{.OrgID}} (of the probe), spelled for JSON, sh or in base64 by {{.Value | json}}, {{.Value | shell}}, {{.Value | base64}}"`
	Mode     FileMode `yaml:"mode" doc:"quoted octal permissions, whatever the umask (default \"0600\", with a group \"0640\")"`
	Owner    string   `yaml:"owner" doc:"user that the file belongs to, by name or number (default: ours, or with write: in_place whose it is); only root may give files away"`
	Group    string   `yaml:"group" doc:"group that the file belongs to, by name or number (default: what a new file gets)"`
	Write    string   `yaml:"write" doc:"rename: a reader never sees half a token (default); in_place: for a file that is mounted by itself, a torn read is possible; a file that is there and not mounted must belong to us, root or owner"`
}

// Validate finds what can be told without looking at the system.
func (o FileOptions) Validate() error {
	var errs []error
	invalid := func(field, format string, args ...any) {
		errs = append(errs, &refresher.Invalid{Field: field, Problem: fmt.Sprintf(format, args...)})
	}
	switch o.Format {
	case "", "raw", "json", "header":
		if o.Template != "" {
			invalid("template", "means nothing without `format: template`")
		}
	case "template":
		if o.Template == "" {
			invalid("template", "is missing, which `format: template` needs: write for instance \"token={{.Value}}\"")
		} else if _, err := expand(o.Template, exampleVersion(), exampleOrg); err != nil {
			invalid("template", "%v", err)
		}
	default:
		invalid("format", "%q is not one of raw, json, header, template", o.Format)
	}
	return errors.Join(append(errs, validatePlace(o.Mode, o.Write)...)...)
}

func validatePlace(mode FileMode, write string) (errs []error) {
	if err := mode.validateFile(); err != nil {
		errs = append(errs, err)
	}
	switch write {
	case "", "rename", "in_place":
	default:
		errs = append(errs, &refresher.Invalid{Field: "write", Problem: fmt.Sprintf("%q is not one of rename, in_place", write)})
	}
	return errs
}

// File is a sink that keeps the current version in a file. It is a
// [refresher.Sink] and a [refresher.Verifier].
type File struct {
	id, path string
	opt      atomicfile.Options
	render   func(refresher.Version) ([]byte, error)

	// What the last Publish wrote, for a file that we may not read ourselves.
	wrote     fs.FileInfo
	wroteETag string
}

var (
	_ refresher.Sink     = (*File)(nil)
	_ refresher.Verifier = (*File)(nil)
)

// NewFile makes a sink of valid options. org is the organization of templates,
// if there is one. headers are further lines for the format header, such as
// "X-Cloud-Org-ID: …". It touches nothing; an unknown user or group, or a
// template that needs an organization where there is none, is a
// [*refresher.Invalid].
func NewFile(o FileOptions, org string, accounts *Accounts, headers ...string) (*File, error) {
	render := renderRaw
	switch o.Format {
	case "template":
		if err := checkOrg("template", o.Template, org); err != nil {
			return nil, err
		}
		render = func(v refresher.Version) ([]byte, error) {
			text, err := expand(o.Template, v, org)
			return []byte(text), err
		}
	case "json":
		render = renderJSON
	case "header":
		render = func(v refresher.Version) ([]byte, error) { return renderHeader(v, headers) }
	}
	return newFile("file:", o.Path, place{o.Mode, o.Owner, o.Group, o.Write}, accounts, render)
}

// place is what files of all kinds have in common.
type place struct {
	mode         FileMode
	owner, group string
	write        string
}

func newFile(kind, path string, p place, accounts *Accounts, render func(refresher.Version) ([]byte, error)) (*File, error) {
	opt, err := p.options(accounts)
	if err != nil {
		return nil, err
	}
	return &File{id: kind + path, path: path, render: render, opt: opt}, nil
}

// options are what the place means to the file system.
func (p place) options(accounts *Accounts) (opt atomicfile.Options, err error) {
	if opt.UID, err = accounts.UID("owner", p.owner); err != nil {
		return opt, err
	}
	if opt.GID, err = accounts.GID("group", p.group); err != nil {
		return opt, err
	}
	mode := FileMode(0o600)
	if p.group != "" {
		mode = 0o640
	}
	opt.Mode, opt.InPlace = fs.FileMode(p.mode.or(mode)), p.write == "in_place"
	return opt, nil
}

// ID implements [refresher.Sink].
func (f *File) ID() string { return f.id }

// Path is the file's path.
func (f *File) Path() string { return f.path }

// Paths are what others may disturb, for who watches it.
func (f *File) Paths() []string { return []string{f.path} }

// Check implements [refresher.Sink]. It makes and removes a temporary file.
func (f *File) Check(context.Context) error { return atomicfile.Check(f.path, f.opt) }

// Publish implements [refresher.Sink]. A file that holds v already is left
// alone. On a disk that hangs it outlives ctx.
func (f *File) Publish(ctx context.Context, v refresher.Version) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	data, err := f.render(v)
	if err != nil {
		return fmt.Errorf("render %s: %w", f.path, err)
	}
	if f.holds(v, data) == nil {
		return nil
	}
	if err := atomicfile.Write(f.path, data, f.opt); err != nil {
		return err
	}
	f.wrote, f.wroteETag = nil, ""
	if f.opt.UID >= 0 && f.opt.UID != os.Geteuid() {
		if st, err := os.Lstat(f.path); err == nil {
			f.wrote, f.wroteETag = st, v.ETag()
		}
	}
	return nil
}

// Holds implements [refresher.Verifier].
func (f *File) Holds(_ context.Context, v refresher.Version) error {
	data, err := f.render(v)
	if err != nil {
		return fmt.Errorf("render %s: %w", f.path, err)
	}
	return f.holds(v, data)
}

func (f *File) holds(v refresher.Version, data []byte) error {
	err := atomicfile.Holds(f.path, data, f.opt)
	if errors.Is(err, fs.ErrPermission) && f.untouched(v) {
		return nil
	}
	return err
}

// untouched tells whether the file is the one that we wrote for v and gave to
// a user whose files we may not read.
func (f *File) untouched(v refresher.Version) bool {
	if f.wrote == nil || f.wroteETag != v.ETag() {
		return false
	}
	st, err := os.Lstat(f.path)
	return err == nil && sameFile(st, f.wrote)
}

// sameFile tells whether a file is still what it was, as far as can be told
// without reading it.
func sameFile(now, before fs.FileInfo) bool {
	return before != nil && os.SameFile(now, before) && now.Mode() == before.Mode() &&
		now.Size() == before.Size() && now.ModTime().Equal(before.ModTime())
}

// Close implements [refresher.Sink]; the file stays.
func (f *File) Close(context.Context) error { return nil }

func renderRaw(v refresher.Version) ([]byte, error) { return []byte(v.Value.Reveal()), nil }

// renderJSON cuts times to seconds, so that a version that was stored and
// restored renders the same.
func renderJSON(v refresher.Version) ([]byte, error) {
	b, err := json.Marshal(struct {
		Name        string     `json:"name"`
		Value       string     `json:"value"`
		Type        string     `json:"type"`
		ExpiresAt   *time.Time `json:"expires_at"`
		Lineage     string     `json:"lineage"`
		Version     uint64     `json:"version"`
		PublishedAt *time.Time `json:"published_at"`
	}{v.Token, v.Value.Reveal(), v.Type, seconds(v.ExpiresAt), v.Lineage, v.N, seconds(v.PublishedAt)})
	return append(b, '\n'), err
}

// seconds is t in UTC without fractions, which is never later; nil for zero.
func seconds(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// renderHeader uses the schemes of
// https://yandex.cloud/en/docs/tracker/concepts/access.
func renderHeader(v refresher.Version, more []string) ([]byte, error) {
	scheme := "Bearer"
	if v.Type == refresher.TypeOAuth {
		scheme = "OAuth"
	}
	lines := append([]string{"Authorization: " + scheme + " " + v.Value.Reveal()}, more...)
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") {
			return nil, errors.New("the value or a header holds a line break and cannot be sent as a header: use another format")
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}
