// Package template fills named fields into a text: "Bearer {{.Value}}".
//
// The syntax is the part of text/template's that replaces fields, with a
// function or two behind a bar ("{{.Value | json}}"), and nothing else of it.
// text/template itself finds fields by reflection, which makes the linker keep
// every method of every type: 3.4 MB of binary and as much of memory, for
// loops and conditions that have no place in a header or a variable.
package template

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Template is a parsed text. It is immutable.
type Template struct{ parts []part }

// part is a piece of text, or a field and what it passes through.
type part struct {
	text, field string
	through     []function
}

type function struct {
	name  string
	apply func(string) string
}

// functions are those that a field may pass through.
var functions = []function{
	{"base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
	{"json", quoteJSON},
	{"shell", func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }},
}

// quoteJSON gives a string with its quotes.
func quoteJSON(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always can be
	return strings.TrimSuffix(b.String(), "\n")
}

// Parse parses text, in which only the given fields may be used, each perhaps
// with functions behind it: json gives a JSON string with its quotes, shell a
// word in single quotes, base64 what it says. Its errors begin with line and
// column (in characters, from 1), say what would be right, and quote nothing
// but the part in braces.
func Parse(text string, fields ...string) (Template, error) {
	var t Template
	for rest := text; ; {
		before, after, found := strings.Cut(rest, "{{")
		if before != "" {
			t.parts = append(t.parts, part{text: before})
		}
		if !found {
			return t, nil
		}
		at := placeIn(text, len(text)-len(rest)+len(before))
		inside, next, closed := strings.Cut(after, "}}")
		if !closed {
			return Template{}, fmt.Errorf("%s: {{ without }}: write a field as {{.%s}}", at, fields[0])
		}
		p, err := parsePart(inside, fields)
		if err != nil {
			return Template{}, fmt.Errorf("%s: {{%s}} %w", at, inside, err)
		}
		t.parts = append(t.parts, p)
		rest = next
	}
}

func parsePart(inside string, fields []string) (p part, err error) {
	words := strings.Split(inside, "|")
	field, ok := strings.CutPrefix(strings.TrimSpace(words[0]), ".")
	if !ok || !slices.Contains(fields, field) {
		return p, fmt.Errorf("is not known: only {{.%s}} can be used", strings.Join(fields, "}}, {{."))
	}
	p.field = field
	for _, word := range words[1:] {
		name := strings.TrimSpace(word)
		i := slices.IndexFunc(functions, func(f function) bool { return f.name == name })
		if i < 0 {
			return p, fmt.Errorf("names no function that is known: only {{.%s | base64}}, {{.%[1]s | json}}, {{.%[1]s | shell}} can be used", field)
		}
		p.through = append(p.through, functions[i])
	}
	return p, nil
}

// placeIn puts an offset into words.
func placeIn(text string, offset int) string {
	before := text[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return fmt.Sprintf("line %d, column %d", 1+strings.Count(before, "\n"), 1+utf8.RuneCountInString(before[start:]))
}

// Uses tells whether a field is in the template.
func (t Template) Uses(field string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.field == field })
}

// Fill returns the text with each field replaced by what value returns for it.
func (t Template) Fill(value func(field string) string) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.text)
			continue
		}
		s := value(p.field)
		for _, f := range p.through {
			s = f.apply(s)
		}
		b.WriteString(s)
	}
	return b.String()
}
