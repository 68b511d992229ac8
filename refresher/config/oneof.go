package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"iam-token-refresher/refresher"
)

var (
	tokenType       = reflect.TypeFor[Token]()
	tokenSourceType = reflect.TypeFor[Source]()
	tokenProbeType  = reflect.TypeFor[Probe]()
	tokenSinkType   = reflect.TypeFor[Sink]()
)

// placedToken is a decoded token and where its parts stand.
type placedToken struct {
	name   string
	at     place // of the name
	label  string
	source *placedOptions
	probe  *placedOptions
	sinks  []*placedOptions

	node     ast.Node
	decoded  *Token
	badSinks bool // they have a mistake already
}

// placedOptions is a decoded option struct and where it stands.
type placedOptions struct {
	options Options
	node    ast.Node
	at      place // of its kind
	path    string
	paths   []placedPath
}

// kindKeys takes the one key of a map that names a kind.
type kindKeys struct {
	d     *decoder
	kinds map[string]Kind
	path  string
	what  string // source, probe, sink
	taken *entry
}

func (k *kindKeys) take(e entry) bool {
	if _, ok := k.kinds[e.key]; !ok {
		return false
	}
	if k.taken != nil {
		remedy := "there can be one"
		if k.what == "sink" {
			remedy = "each begins with a dash of its own"
		}
		k.d.fail(e.at, k.path, fmt.Sprintf("%q is a second %s beside %q (line %d): %s",
			e.key, k.what, k.taken.key, k.taken.at.line, remedy))
		return true
	}
	k.taken = &e
	return true
}

func (k *kindKeys) names() []string { return slices.Sorted(maps.Keys(k.kinds)) }

// owner returns the kind among a map's keys that has an option of this name:
// YAML's most frequent slip is an indentation too small.
func (k *kindKeys) owner(option string, list []entry) string {
	for _, e := range list {
		kind, ok := k.kinds[e.key]
		if ok && slices.ContainsFunc(optionsOf(kind), func(f field) bool { return f.key == option }) {
			return e.key
		}
	}
	return ""
}

func names(kinds map[string]Kind) string {
	return strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
}

// oneOf decodes a map that holds one kind with its options, and the keys of v
// that all kinds have in common.
func (d *decoder) oneOf(n ast.Node, v reflect.Value, kinds map[string]Kind, what, path string, at place) (kind string, o *placedOptions) {
	keys := &kindKeys{d: d, kinds: kinds, path: path, what: what}
	before := d.failed()
	list, ok := d.entries(n, path, "a map that names a "+what)
	if !ok {
		return "", nil
	}
	d.object(list, v, path, at, keys)
	if keys.taken == nil {
		if d.failed() == before {
			d.fail(at, path, fmt.Sprintf("names no %s: give one of %s", what, names(kinds)))
		}
		return "", nil
	}
	return keys.taken.key, d.options(kinds[keys.taken.key], *keys.taken, join(path, keys.taken.key))
}

// options decodes and validates one option struct. It returns nil when that failed.
func (d *decoder) options(kind Kind, e entry, path string) *placedOptions {
	o := &placedOptions{options: kind.New(), at: e.at, path: path}
	before := d.failed()
	n, done := d.resolve(e.value)
	defer done()
	d.paths = nil
	o.node = n
	list, ok := d.entries(n, path, "a map of options")
	if !ok {
		return nil
	}
	d.object(list, reflect.ValueOf(o.options).Elem(), path, e.at, nil)
	o.paths, d.paths = d.paths, nil
	if d.failed() == before && !d.exhausted {
		d.invalid(o.options.Validate(), n, path, e.at)
	}
	if d.failed() > before || d.exhausted {
		return nil
	}
	return o
}

// invalid places the mistakes that a Validate found below n.
func (d *decoder) invalid(err error, n ast.Node, path string, at place) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			d.invalid(one, n, path, at)
		}
		return
	}
	var mistake *refresher.Invalid
	if !errors.As(err, &mistake) {
		d.fail(at, path, err.Error())
		return
	}
	if mistake.Field != "" {
		path = join(path, mistake.Field)
	}
	d.fail(d.locate(n, mistake.Field, at), path, mistake.Problem)
}

// locate returns where the value of a field stands: keys joined by dots, list
// items as a.0 or a[0]. What is not written is placed at what it would be in.
func (d *decoder) locate(n ast.Node, fieldPath string, at place) place {
	fieldPath = strings.NewReplacer("[", ".", "]", "").Replace(fieldPath)
	for fieldPath != "" {
		target, done := d.resolve(n)
		done()
		key, rest, _ := strings.Cut(fieldPath, ".")
		switch m := target.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			list, _ := d.entries(m, "", "")
			e, ok := find(list, fieldPath) // a key with dots of its own
			if ok {
				rest = ""
			} else if e, ok = find(list, key); !ok {
				return at
			}
			n, at = e.value, placeOf(e.value)
		case *ast.SequenceNode:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(m.Values) {
				return at
			}
			n, at = m.Values[i], placeOf(m.Values[i])
		default:
			return at
		}
		fieldPath = rest
	}
	return at
}

func (d *decoder) source(n ast.Node, s *Source, path string, at place) {
	kind, o := d.oneOf(n, reflect.ValueOf(s).Elem(), d.kinds.Sources, "source", path, at)
	if s.Kind = kind; o != nil {
		s.Options = o.options
		d.token.source = o
	}
}

func (d *decoder) probe(n ast.Node, p *Probe, path string, at place) {
	*p = defaultProbe()
	if text, ok := n.(*ast.StringNode); ok {
		if text.Value != "none" {
			d.failAt(n, path, fmt.Sprintf("%sis no probe: write none, or {tracker: {…}} for example", d.quoted(n, text.Value)))
		}
		p.None = true
		return
	}
	kind, o := d.oneOf(n, reflect.ValueOf(p).Elem(), d.kinds.Probes, "probe", path, at)
	if p.Kind = kind; o != nil {
		p.Options = o.options
		d.token.probe = o
	}
}

func (d *decoder) sink(n ast.Node, s *Sink, path string, at place) {
	kind, o := d.oneOf(n, reflect.ValueOf(s).Elem(), d.kinds.Sinks, "sink", path, at)
	if s.Kind = kind; o != nil {
		s.Options = o.options
		d.token.sinks = append(d.token.sinks, o)
	}
	if s.OnChange != nil {
		d.checkHook(n, s.OnChange, "sinks", at)
	}
}

// oneToken decodes a token. Messages name it.
func (d *decoder) oneToken(n ast.Node, t *Token, path string) {
	*t = defaultToken()
	d.token = &placedToken{at: placeOf(n), label: path + ": ", node: n, decoded: t}
	outer := d.label
	defer func() { d.label, d.token = outer, nil }()
	if name := d.peek(n, "name"); name != nil {
		d.token.at = placeOf(name)
		target, done := d.resolve(name)
		if text, ok := plainText(target); ok && validName(text) {
			d.token.name = text
			d.token.label = fmt.Sprintf("token %q: ", text)
		}
		done()
	}
	d.labelToken(d.token)
	list, ok := d.entries(n, "", "a map of keys")
	if !ok {
		return
	}
	d.tokens = append(d.tokens, d.token)
	before := d.failed()
	d.object(list, reflect.ValueOf(t).Elem(), "", placeOf(n), nil)
	if t.Name != "" {
		d.checkName(t.Name, list)
	}
	if d.failed() == before {
		d.checkToken(n, t)
	}
}

// labelToken makes the messages that follow name t.
func (d *decoder) labelToken(t *placedToken) {
	if d.label = t.label; d.doc.unnamed {
		d.label = ""
	}
}

// peek returns the value of a key of n's own, without complaints.
func (d *decoder) peek(n ast.Node, key string) ast.Node {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		return nil
	}
	for _, v := range m.Values {
		if v.Key.GetToken().Value == key {
			return v.Value
		}
	}
	return nil
}
