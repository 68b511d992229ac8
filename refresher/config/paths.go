package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// placedPath is an expanded path and where it stands.
type placedPath struct {
	value string
	at    place
	path  string // of the option
	dir   bool   // it is a directory
}

// expandPath replaces what was decoded into v, a string or a list of strings,
// by the path it means.
func (d *decoder) expandPath(n ast.Node, v reflect.Value, f field, path string) {
	n, done := d.resolve(n)
	defer done()
	if v.Kind() == reflect.Slice {
		seq, ok := n.(*ast.SequenceNode)
		for i := range v.Len() {
			if ok && v.Index(i).Kind() == reflect.String {
				d.expandPath(seq.Values[i], v.Index(i), f, path)
			}
		}
		return
	}
	if v.Kind() != reflect.String || v.String() == "" {
		return
	}
	written := v.String()
	value, err := d.absolute(written)
	if err != nil {
		d.failAt(n, path, d.quoted(n, written)+err.Error())
		return
	}
	switch found := d.files.stat(value); {
	case !f.dir && (found.dir || strings.HasSuffix(written, "/")):
		d.failAt(n, path, d.quoted(n, written)+"is a directory: name a file in it")
		return
	case f.dir && found.exists && !found.dir:
		d.failAt(n, path, d.quoted(n, written)+"is not a directory")
		return
	}
	v.SetString(strings.Clone(value))
	d.paths = append(d.paths, placedPath{value: value, at: placeOf(n), path: path, dir: f.dir})
}

func (d *decoder) absolute(written string) (string, error) {
	expanded, err := expand(written, d.lookupEnv)
	switch {
	case err != nil:
		return "", err
	case strings.ContainsAny(expanded, "\x00\n\r"):
		return "", errors.New("holds a line break or a NUL")
	case !filepath.IsAbs(expanded) && expanded != written:
		return "", errors.New("is a relative path once its variables are expanded: it must begin with /")
	case !filepath.IsAbs(expanded):
		return "", errors.New("is a relative path: write it from / on")
	}
	return filepath.Clean(expanded), nil
}

// expand replaces ${NAME}; $$ is a dollar sign.
func expand(s string, lookupEnv func(string) (string, bool)) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		switch {
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			name, rest, closed := strings.Cut(after[1:], "}")
			if !closed || !isVariable(name) {
				return "", errors.New("holds a ${ without the name of a variable and a }")
			}
			value, ok := lookupEnv(name)
			if !ok {
				return "", fmt.Errorf("needs the environment variable %s, which is not set", name)
			}
			if value == "" {
				return "", fmt.Errorf("needs the environment variable %s, which is empty", name)
			}
			b.WriteString(value)
			s = rest
		default:
			return "", errors.New("holds a $ alone: a variable is written ${NAME}, a dollar sign $$")
		}
	}
}

// QuotePath returns a path as it is to be written in a configuration.
func QuotePath(path string) string { return strconv.Quote(strings.ReplaceAll(path, "$", "$$")) }

func isVariable(name string) bool {
	for i, r := range name {
		if r != '_' && !isAlnum(r) || i == 0 && r >= '0' && r <= '9' {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// files looks at what paths lead to, once each.
type files struct {
	found    map[string]found
	resolved map[string]string // of directories
}

type found struct{ exists, dir bool }

// stat tells what a path leads to. What may not be looked at does not exist.
func (f *files) stat(path string) found {
	known, seen := f.found[path]
	if !seen {
		if info, err := os.Stat(path); err == nil {
			known = found{exists: true, dir: info.IsDir()}
		}
		if f.found == nil {
			f.found = map[string]found{}
		}
		f.found[path] = known
	}
	return known
}

// same returns one spelling for all paths that lead to the same name: symbolic
// links in the directory are followed, the last element is not.
func (f *files) same(path string) string {
	dir, base := filepath.Split(path)
	resolved, seen := f.resolved[dir]
	if !seen {
		if f.resolved == nil {
			f.resolved = map[string]string{}
		}
		resolved = f.existing(filepath.Clean(dir))
		f.resolved[dir] = resolved
	}
	return filepath.Join(resolved, base)
}

// target is same, and also follows the path itself.
func (f *files) target(path string) string {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			return resolved
		}
	}
	return f.same(path)
}

// existing follows symbolic links in as much of a directory's path as exists.
func (f *files) existing(dir string) string {
	rest := ""
	for {
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(resolved, rest)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return filepath.Join(dir, rest)
		}
		rest = filepath.Join(filepath.Base(dir), rest)
		dir = parent
	}
}
