// Package template fills named fields into a text: "Bearer {{.Value}}".
//
// The syntax is the part of text/template's that replaces fields, and nothing
// else of it. text/template itself finds fields by reflection, which makes the
// linker keep every method of every type: 3.4 MB of binary and as much of
// memory, for loops and conditions that have no place in a header or a
// variable.
package template

import (
	"fmt"
	"slices"
	"strings"
)

// Template is a parsed text. It is immutable.
type Template struct{ parts []part }

// part is a piece of text, or a field.
type part struct{ text, field string }

// Parse parses text, in which only the given fields may be used. Its errors
// say what would be right, and quote nothing but the part in braces.
func Parse(text string, fields ...string) (Template, error) {
	var t Template
	for {
		before, rest, found := strings.Cut(text, "{{")
		if before != "" {
			t.parts = append(t.parts, part{text: before})
		}
		if !found {
			return t, nil
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return Template{}, fmt.Errorf("{{ without }}: write a field as {{.%s}}", fields[0])
		}
		field, ok := strings.CutPrefix(strings.TrimSpace(inside), ".")
		if !ok || !slices.Contains(fields, field) {
			return Template{}, fmt.Errorf("{{%s}} is not known: only {{.%s}} can be used", inside, strings.Join(fields, "}}, {{."))
		}
		t.parts = append(t.parts, part{field: field})
		text = after
	}
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
		} else {
			b.WriteString(value(p.field))
		}
	}
	return b.String()
}
