package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// flagsFile is what messages call all flags together, and namePath where the
// token's name stands.
const (
	flagsFile = "flags"
	namePath  = "tokens[0].name"
)

// given is a flag or variable that was given.
type given struct {
	Flag
	value string
	name  string // "--file" or "ITR_FILE", as the user gave it
}

// FromFlags makes the configuration of one token from flags and variables.
// Keys of values are Names of [Flags], or their Envs where a variable gave the
// value; a flag goes before its variable, and an empty variable is none. The
// rest is as in [Parse], on an equivalent document; errors name the flag or
// variable instead of a line. The error is an Errors.
func FromFlags(values map[string]string, kinds Kinds, opt LoadOptions) (*Config, error) {
	all, errs := collect(values)
	errs = append(errs, missingFlags(all, opt.Exec != nil)...)
	if len(errs) > 0 {
		return nil, errs
	}
	text, origins := flagDocument(all)
	doc, err := parseDocument(flagsFile, []byte(text))
	if err != nil {
		return nil, blame(err.(Errors), origins)
	}
	doc.unnamed = true
	c, err := doc.decode(kinds, opt)
	if err != nil {
		return nil, blame(err.(Errors), origins)
	}
	return c, nil
}

// collect matches values to flags, in the order of Flags.
func collect(values map[string]string) (all []given, errs Errors) {
	known := map[string]bool{}
	for _, f := range Flags() {
		known[f.Name], known[f.Env] = true, true
		g := given{Flag: f, name: "--" + f.Name}
		value, ok := values[f.Name]
		if !ok {
			g.name = f.Env
			if value, ok = values[f.Env]; !ok || value == "" {
				continue
			}
		}
		g.value = value
		switch {
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			errs = append(errs, g.problem("holds a line break or another control character"))
		case value == "":
			errs = append(errs, g.problem("has an empty value"))
		case f.Bool:
			on, err := strconv.ParseBool(value)
			if err != nil {
				errs = append(errs, g.problem("must be true or false"))
			}
			if !on && f.fixed != "" || err != nil {
				continue
			}
			if g.value = strconv.FormatBool(on); f.fixed != "" {
				g.value = f.fixed
			}
		}
		all = append(all, g)
	}
	var unknown []string
	for key := range values {
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		errs = append(errs, Error{File: key, Problem: "there is no such flag or variable"})
	}
	return all, errs
}

func (g given) problem(problem string) Error {
	return Error{File: g.name, Problem: maskShapes(problem), bare: problem}
}

// missingFlags finds what can be said better of flags than of a document.
//
// A program that gets the value needs no sink.
func missingFlags(all []given, exec bool) (errs Errors) {
	find := func(start string) (found []given) {
		for _, g := range all {
			if g.Name == start || g.needs == "" && strings.HasPrefix(g.Path, start) {
				found = append(found, g)
			}
		}
		return found
	}
	one := func(start, problem string) {
		if len(find(start)) == 0 {
			errs = append(errs, Error{File: flagsFile, Problem: problem + ": " + alternatives(start)})
		}
	}
	one("tokens[0].source.", "no source; give one of")
	if !exec {
		one("tokens[0].sinks", "no sink, so that nobody would get the token; give at least one of")
	}
	kinds := map[string]given{}
	var first string
	for _, g := range find("tokens[0].source.") {
		kind, _, _ := strings.Cut(strings.TrimPrefix(g.Path, "tokens[0].source."), ".")
		if first == "" {
			first = kind
		}
		if _, same := kinds[kind]; kind != first && !same {
			errs = append(errs, g.problem("is a second source beside "+kinds[first].name+": there can be one"))
		}
		kinds[kind] = g
	}
	for _, g := range all {
		if g.needs != "" && len(find(g.needs)) == 0 {
			errs = append(errs, g.problem("means nothing without "+alternatives(g.needs)))
		}
		if g.fixed == "none" {
			for _, other := range find("tokens[0].probe.tracker.") {
				errs = append(errs, g.problem("contradicts "+other.name))
			}
		}
	}
	return errs
}

// alternatives lists the flags that can be given where start is needed.
func alternatives(start string) string {
	var names []string
	for _, f := range Flags() {
		if f.Name == start || f.needs == "" && strings.HasPrefix(f.Path, start) {
			names = append(names, "--"+f.Name)
		}
	}
	if len(names) > 1 {
		return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
	}
	return strings.Join(names, "")
}

// branch is a node of the document that flags describe.
type branch struct {
	key      string
	children []*branch
	flag     *given // at a leaf
}

func (b *branch) child(key string) *branch {
	for _, c := range b.children {
		if c.key == key {
			return c
		}
	}
	c := &branch{key: key}
	b.children = append(b.children, c)
	return c
}

// flagDocument writes a document with one flag a line, and says which.
func flagDocument(all []given) (text string, origins map[int]*given) {
	if !slices.ContainsFunc(all, func(g given) bool { return g.Name == "name" }) {
		all = append([]given{{Flag: Flag{Path: namePath}, value: defaultName}}, all...)
	}
	fileAt := slices.IndexFunc(all, func(g given) bool { return g.Name == "env-file" })
	if fileAt >= 0 && !slices.ContainsFunc(all, func(g given) bool { return g.Name == "env-var" }) {
		name := given{value: defaultVariable, name: all[fileAt].name}
		name.Path, name.option = "tokens[0].sinks[1].env_file.variables", "{{.Value}}"
		all = append(all, name)
	}
	root := &branch{}
	for i := range all {
		at := root
		for key := range strings.SplitSeq(strings.ReplaceAll(all[i].Path, "[", ".["), ".") {
			at = at.child(key)
		}
		at.flag = &all[i]
	}
	w := &flagWriter{origins: map[int]*given{}}
	w.write(root.children, "")
	return w.b.String(), w.origins
}

type flagWriter struct {
	b       strings.Builder
	line    int
	origins map[int]*given
}

func (w *flagWriter) write(children []*branch, indent string) {
	for _, c := range children {
		w.line++
		if strings.HasPrefix(c.key, "[") {
			w.b.WriteString(indent + "-\n")
		} else if w.b.WriteString(indent + c.key + ":"); c.flag == nil {
			w.b.WriteString("\n")
		}
		if c.flag != nil {
			w.origins[w.line] = c.flag
			w.b.WriteString(" " + c.flag.yaml() + "\n")
		}
		w.write(c.children, indent+"  ")
	}
}

// yaml returns the value as it is written in the document.
func (g *given) yaml() string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	switch {
	case g.Bool:
		return g.value
	case g.words:
		words := strings.Fields(g.value)
		for i := range words {
			words[i] = quote(words[i])
		}
		return "[" + strings.Join(words, ", ") + "]"
	case g.option != "":
		return "{" + quote(g.value) + ": " + quote(g.option) + "}"
	}
	return quote(g.value)
}

// blame names flags instead of lines. The line of the name begins the token: what
// is found there is about the token, unless it says that it is about the name.
func blame(errs Errors, origins map[int]*given) Errors {
	blamed := make(Errors, 0, len(errs))
	for _, e := range errs {
		if e.Line == 0 && e.File != flagsFile {
			blamed = append(blamed, e)
			continue
		}
		if g, ok := origins[e.Line]; ok && (g.Path != namePath || strings.HasPrefix(e.Problem, "name: ")) {
			blamed = append(blamed, g.problem(e.bare))
			continue
		}
		blamed = append(blamed, Error{File: flagsFile, Problem: e.Problem, bare: e.bare})
	}
	return blamed
}

// CheckFlags tells whether the options that [Flags] writes exist in kinds:
// something for a test beside the table of kinds.
func CheckFlags(kinds Kinds) error {
	tables := map[string]map[string]Kind{"source": kinds.Sources, "probe": kinds.Probes, "sinks": kinds.Sinks}
	for _, f := range Flags() {
		keys := strings.Split(f.Path, ".")
		if len(keys) < 3 || !strings.HasPrefix(f.Path, "tokens[0].") {
			continue
		}
		table, _, _ := strings.Cut(keys[1], "[")
		if len(keys) < 4 {
			continue
		}
		kind, ok := tables[table][keys[2]]
		if !ok {
			return fmt.Errorf("--%s: there is no %s %q", f.Name, table, keys[2])
		}
		if !slices.ContainsFunc(optionsOf(kind), func(o field) bool { return o.key == keys[3] }) {
			return fmt.Errorf("--%s: %s %q has no option %q", f.Name, table, keys[2], keys[3])
		}
	}
	return nil
}
