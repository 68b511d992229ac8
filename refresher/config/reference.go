package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Reference returns the configuration reference in Markdown: a table for each
// part of the file, headings from level three on.
func Reference(kinds Kinds) string {
	var r reference
	c, t, p := defaultConfig(), defaultToken(), defaultProbe()
	r.section("The file", "", reflect.ValueOf(&c).Elem())
	r.section("Each of `tokens`", "", reflect.ValueOf(&t).Elem())
	r.kinds("Sources", "One of these in `source:`.", kinds.Sources, reflect.ValueOf(&t.Source).Elem())
	r.kinds("Probes", "One of these in `probe:`, or `probe: none` to publish values untried without a warning.", kinds.Probes, reflect.ValueOf(&p).Elem())
	r.kinds("Sinks", "One of these in each item of `sinks:`.", kinds.Sinks, reflect.ValueOf(&Sink{}).Elem())
	r.b.WriteString("### Flags and variables\n\n" +
		"One token needs no file. A flag goes before its variable.\n\n| flag | variable | stands for | |\n| --- | --- | --- | --- |\n")
	for _, f := range Flags() {
		path := strings.NewReplacer("tokens[0].", "", "[0]", "", "[1]", "", "[2]", "", "[3]", "").Replace(f.Path)
		fmt.Fprintf(&r.b, "| `--%s` | `%s` | `%s` | %s |\n", f.Name, f.Env, path, cell(f.Help))
	}
	return r.b.String()
}

type reference struct{ b strings.Builder }

func (r *reference) section(title, intro string, v reflect.Value) {
	fmt.Fprintf(&r.b, "### %s\n\n", title)
	if intro != "" {
		fmt.Fprintf(&r.b, "%s\n\n", intro)
	}
	r.table(v)
}

func (r *reference) kinds(title, intro string, kinds map[string]Kind, common reflect.Value) {
	fmt.Fprintf(&r.b, "### %s\n\n%s", title, intro)
	if len(fieldsOf(common.Type())) > 0 {
		r.b.WriteString(" All may have beside them:\n\n")
		r.table(common)
	} else {
		r.b.WriteString("\n\n")
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&r.b, "#### `%s`\n\n", name)
		if doc := kinds[name].Doc; doc != "" {
			fmt.Fprintf(&r.b, "%s.\n\n", strings.TrimSuffix(upper(doc), "."))
		}
		r.table(reflect.ValueOf(kinds[name].New()).Elem())
	}
}

func (r *reference) table(v reflect.Value) {
	if len(fieldsOf(v.Type())) == 0 {
		r.b.WriteString("No options.\n\n")
		return
	}
	r.b.WriteString("| key | value | default | |\n| --- | --- | --- | --- |\n")
	r.rows("", v, false)
	r.b.WriteString("\n")
}

// rows writes a line for each option, also for those of structs within.
// Where that may be left out, nothing in it is required.
func (r *reference) rows(prefix string, v reflect.Value, optional bool) {
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		if inner := indirect(f.typ); inner.Kind() == reflect.Struct && !isScalar(inner) && !isOneOf(inner) {
			within := optional
			if value.Kind() == reflect.Pointer {
				value, within = reflect.New(inner).Elem(), true
			}
			r.rows(prefix+f.key+".", value, within)
			continue
		}
		byDefault := ""
		if text := defaultText(value); text != nil {
			byDefault = "`" + inYAML(text) + "`"
		} else if f.required && !optional {
			byDefault = "**required**"
		}
		fmt.Fprintf(&r.b, "| `%s%s` | %s | %s | %s |\n", prefix, f.key, cell(typeName(f)), byDefault, cell(f.doc))
	}
}

func inYAML(v any) string {
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice {
		items := make([]string, list.Len())
		for i := range items {
			items[i] = fmt.Sprint(list.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(v)
}

func isOneOf(t reflect.Type) bool {
	return t == tokenSourceType || t == tokenProbeType || t == tokenSinkType
}

func typeName(f field) string {
	t := indirect(f.typ)
	switch {
	case t == tokenSourceType:
		return "a source"
	case t == tokenProbeType:
		return "a probe, or `none`"
	case t == durationType:
		return "duration"
	case t == scheduleType:
		return "schedule"
	case len(f.oneOf) > 0:
		return "`" + strings.Join(f.oneOf, "`, `") + "`"
	case f.dir:
		return "directory"
	case f.listen:
		return "path, or host:port"
	case f.path && t.Kind() == reflect.String:
		return "path"
	case isScalar(t):
		return scalarName(t)
	case t.Kind() == reflect.Slice && indirect(t.Elem()).Kind() == reflect.Struct:
		return "list of maps"
	case t.Kind() == reflect.Slice:
		return "list of " + scalarName(t.Elem())
	case t.Kind() == reflect.Map:
		return "map of " + scalarName(t.Elem())
	}
	return "map"
}

func scalarName(t reflect.Type) string {
	if decodesItself(t) {
		return "text"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	}
	return "number"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
