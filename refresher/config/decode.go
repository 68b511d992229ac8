package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills structs from a document and collects every mistake.
type decoder struct {
	doc       *document
	kinds     Kinds
	lookupEnv func(string) (string, bool)
	files     files

	errs  Errors
	label string // of the token being decoded: `token "bot": `

	aliasNodes int // visited through aliases
	inAlias    int
	exhausted  bool // nothing more is decoded or reported

	fields map[reflect.Type][]field

	// tokens and paths are what was decoded and where, for the checks between options.
	tokens []*placedToken
	token  *placedToken // being decoded; nil outside of tokens
	paths  []placedPath // of the options being decoded

	needs map[string]need // by name: what no sink may overwrite
	sets  []setOwner

	listens map[uint64][]listen // by port

	changed []string // keys of exec that the command line gave
}

// More mistakes than this are not looked for.
const maxErrors = 100

// failed counts mistakes: nothing is validated after a failed decoding.
func (d *decoder) failed() int { return len(d.errs) }

func (d *decoder) fail(at place, path, problem string) {
	if d.exhausted {
		return
	}
	full := problem
	if path != "" {
		full = path + ": " + full
	}
	one := d.doc.errorAt(at, d.label+full)
	if given := d.onCommandLine(path); given != "" {
		one = Error{File: printable(given), Problem: maskShapes(printable(problem))}
	}
	one.bare = problem
	d.errs = append(d.errs, one)
	d.exhausted = len(d.errs) >= maxErrors
}

func (d *decoder) failAt(n ast.Node, path, problem string) { d.fail(placeOf(n), path, problem) }

// quoted returns the text in quotes as the subject of a message, if it is
// short and stands as such in the line that will be shown; otherwise "this".
func (d *decoder) quoted(n ast.Node, text string) string {
	at := placeOf(n)
	if text == "" {
		return `"" `
	}
	if len(text) > 80 || at.line < 1 || at.line > len(d.doc.lines) || !strings.Contains(d.doc.lines[at.line-1], text) ||
		!strings.Contains(d.doc.shown(at.line), text) {
		return "this "
	}
	return strconv.Quote(text) + " "
}

// value decodes any node into v. at is where the key stands, for what is
// missing below it.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, at place) {
	n, done := d.resolve(n)
	defer done()
	if d.exhausted {
		return
	}
	if _, null := n.(*ast.NullNode); null {
		if t := indirect(v.Type()); t.Kind() != reflect.Struct || isScalar(t) || t == tokenProbeType || t == tokenSourceType {
			problem := "has no value"
			switch t {
			case tokenSourceType:
				problem += ": name one of " + names(d.kinds.Sources)
			case tokenProbeType:
				problem += ": write none, or name one of " + names(d.kinds.Probes)
			}
			d.fail(at, path, problem)
			return
		}
	}
	switch t := v.Type(); {
	case t == tokenSourceType:
		d.source(n, v.Addr().Interface().(*Source), path, at)
	case t == tokenProbeType:
		d.probe(n, v.Addr().Interface().(*Probe), path, at)
	case t == tokenSinkType:
		d.sink(n, v.Addr().Interface().(*Sink), path, at)
	case t == tokenType:
		d.oneToken(n, v.Addr().Interface().(*Token), path)
	case t.Kind() == reflect.Pointer:
		fresh := reflect.New(t.Elem())
		d.value(n, fresh.Elem(), path, at)
		v.Set(fresh)
	case isScalar(t):
		d.scalar(n, v, path)
	case t.Kind() == reflect.Struct:
		if list, ok := d.entries(n, path, "a map of keys"); ok {
			d.object(list, v, path, at, nil)
		}
	case t.Kind() == reflect.Slice:
		d.list(n, v, path)
	case t.Kind() == reflect.Map:
		d.table(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// isScalar tells whether values of type t are written as one word of text.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Pointer:
		return decodesItself(t)
	}
	return true
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(textType) || p.Implements(yamlType)
}

// object decodes the keys of a map into a struct. other is asked first what to
// do with a key: it returns true when it took it, and names further keys.
func (d *decoder) object(list []entry, v reflect.Value, path string, at place, other *kindKeys) {
	fields := d.fieldsOf(v.Type())
	for _, e := range list {
		if other != nil && other.take(e) {
			continue
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key })
		if i < 0 {
			if _, sink := d.kinds.Sinks[e.key]; sink && path == "" {
				d.fail(e.at, path, fmt.Sprintf("%q is a sink: list it in the sinks of a token, as - %s: {…}", e.key, e.key))
				continue
			}
			known := make([]string, 0, len(fields))
			if other != nil {
				if kind := other.owner(e.key, list); kind != "" {
					d.fail(e.at, path, fmt.Sprintf("key %q belongs to %s: indent it below", e.key, kind))
					continue
				}
				known = append(known, other.names()...)
			}
			for _, f := range fields {
				known = append(known, f.key)
			}
			d.fail(e.at, path, "unknown key "+quotedKey(e.key)+suggest(e.key, known))
			continue
		}
		f, before := fields[i], d.failed()
		target := v.FieldByIndex(f.index)
		d.value(e.value, target, join(path, e.key), e.at)
		if d.failed() == before {
			d.check(e, target, f, join(path, e.key))
		} else if target.Type() == reflect.TypeFor[[]Sink]() {
			d.token.badSinks = true
		}
	}
	for _, f := range fields {
		if _, given := find(list, f.key); f.required && !given {
			d.fail(at, join(path, f.key), "is missing")
		}
	}
}

// check applies a field's check tag to what was decoded.
func (d *decoder) check(e entry, v reflect.Value, f field, path string) {
	switch {
	case f.required && isEmpty(v):
		d.fail(placeOf(e.value), path, "must not be empty")
	case len(f.oneOf) > 0 && v.Kind() == reflect.String && !slices.Contains(f.oneOf, v.String()):
		d.fail(placeOf(e.value), path, d.quoted(e.value, v.String())+"is not one of "+strings.Join(f.oneOf, ", "))
	case f.path, f.listen && strings.ContainsAny(v.String(), "/$"):
		d.expandPath(e.value, v, f, path)
	}
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.failAt(n, path, fmt.Sprintf("must be a list, not %s: write [ … ], or a line with a dash for each", describe(n)))
		return
	}
	items := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		if d.exhausted {
			return
		}
		itemPath := path
		if !isScalar(v.Type().Elem()) && v.Type().Elem() != tokenSinkType {
			itemPath = path + "[" + strconv.Itoa(i) + "]"
		}
		d.value(item, items.Index(i), itemPath, placeOf(item))
	}
	v.Set(items)
}

func (d *decoder) table(n ast.Node, v reflect.Value, path string) {
	list, ok := d.entries(n, path, "a map of keys")
	if !ok {
		return
	}
	table := reflect.MakeMapWithSize(v.Type(), len(list))
	for _, e := range list {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, item, join(path, e.key), e.at)
		table.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), item)
	}
	v.Set(table)
}

func (d *decoder) fieldsOf(t reflect.Type) []field {
	known, ok := d.fields[t]
	if !ok {
		known = fieldsOf(t)
		d.fields[t] = known
	}
	return known
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
