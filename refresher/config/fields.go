package config

import (
	"reflect"
	"strings"
)

// field is one option of a struct, as its tags describe it.
type field struct {
	index     []int
	typ       reflect.Type
	key, doc  string
	required  bool
	path, dir bool
	listen    bool
	oneOf     []string
}

// fieldsOf lists the options of a struct type in the order of the struct.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key, flags, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if inline := flags == "inline" || sf.Anonymous && key == ""; inline && sf.Type.Kind() == reflect.Struct {
			for _, inner := range fieldsOf(sf.Type) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
			continue
		}
		if !sf.IsExported() || key == "" || key == "-" {
			continue
		}
		f := field{index: []int{i}, typ: sf.Type, key: key, doc: sf.Tag.Get("doc")}
		for check := range strings.SplitSeq(sf.Tag.Get("check"), ",") {
			name, arg, _ := strings.Cut(check, "=")
			switch name {
			case "required":
				f.required = true
			case "path":
				f.path = true
			case "dir":
				f.path, f.dir = true, true
			case "listen":
				f.listen = true
			case "oneof":
				f.oneOf = strings.Split(arg, "|")
			}
		}
		fields = append(fields, f)
	}
	return fields
}
