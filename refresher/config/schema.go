package config

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// optionsOf lists the options of a kind.
func optionsOf(k Kind) []field { return fieldsOf(reflect.TypeOf(k.New()).Elem()) }

// Schema returns the JSON Schema (draft 2020-12) of configuration files, for
// editors. It ends with a newline and is the same for the same kinds.
func Schema(kinds Kinds) []byte {
	s := schemer{kinds: kinds}
	c := defaultConfig()
	root := s.object(reflect.ValueOf(&c).Elem(), nil)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "iam-token-refresher configuration"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil { // maps of strings, numbers and lists always marshal
		return nil
	}
	return append(text, '\n')
}

type schemer struct{ kinds Kinds }

type schema = map[string]any

const (
	durationPattern = `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`
	pathPattern     = `^[/$]`
)

// object describes a struct with the defaults that v holds. kinds may stand
// beside its fields.
func (s schemer) object(v reflect.Value, kinds map[string]Kind) schema {
	properties := schema{}
	required := []string{}
	for _, f := range fieldsOf(v.Type()) {
		properties[f.key] = s.field(v.FieldByIndex(f.index), f)
		if f.required {
			required = append(required, f.key)
		}
	}
	object := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		object["required"] = required
	}
	if len(kinds) > 0 {
		var oneOf []schema
		for _, name := range slices.Sorted(maps.Keys(kinds)) {
			properties[name] = s.kind(kinds[name])
			oneOf = append(oneOf, schema{"required": []string{name}})
		}
		object["oneOf"] = oneOf
	}
	return object
}

func (s schemer) kind(k Kind) schema {
	object := s.object(reflect.ValueOf(k.New()).Elem(), nil)
	if k.Doc != "" {
		object["description"] = k.Doc
	}
	if _, must := object["required"]; !must {
		object["type"] = []string{"object", "null"}
	}
	return object
}

func (s schemer) field(v reflect.Value, f field) schema {
	described := s.value(v, f)
	if f.doc != "" {
		described["description"] = f.doc
	}
	if text := defaultText(v); text != nil {
		described["default"] = text
	}
	return described
}

func (s schemer) value(v reflect.Value, f field) schema {
	switch t := v.Type(); {
	case t == tokenSourceType:
		return s.object(v, s.kinds.Sources)
	case t == tokenSinkType:
		return s.object(v, s.kinds.Sinks)
	case t == tokenType:
		token := defaultToken()
		return s.object(reflect.ValueOf(&token).Elem(), nil)
	case t == reflect.PointerTo(tokenProbeType):
		probe := defaultProbe()
		return schema{"anyOf": []schema{{"const": "none"}, s.object(reflect.ValueOf(&probe).Elem(), s.kinds.Probes)}}
	case t == durationType:
		return schema{"type": "string", "pattern": durationPattern}
	case t.Kind() == reflect.Pointer:
		return s.value(reflect.New(t.Elem()).Elem(), f)
	case isScalar(t):
		return scalarSchema(t, f)
	case t.Kind() == reflect.Struct:
		return s.object(v, nil)
	case t.Kind() == reflect.Slice:
		list := schema{"type": "array", "items": s.value(reflect.New(t.Elem()).Elem(), f)}
		if f.required {
			list["minItems"] = 1
		}
		return list
	}
	table := schema{"type": "object", "additionalProperties": s.value(reflect.New(v.Type().Elem()).Elem(), field{})}
	if f.required {
		table["minProperties"] = 1
	}
	return table
}

func scalarSchema(t reflect.Type, f field) schema {
	if decodesItself(t) {
		return schema{"type": "string", "minLength": 1}
	}
	switch t.Kind() {
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.String:
		text := schema{"type": "string"}
		switch {
		case len(f.oneOf) > 0:
			text["enum"] = f.oneOf
		case f.path:
			text["pattern"] = pathPattern
		case f.required, f.listen:
			text["minLength"] = 1
		}
		return text
	}
	return schema{"type": "integer"}
}

// defaultText returns a default as it would be written in YAML, or nil when
// there is none to tell.
func defaultText(v reflect.Value) any {
	if v.IsZero() {
		return nil
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return short(d)
	}
	if text, ok := v.Interface().(interface{ String() string }); ok && isScalar(v.Type()) && v.Kind() != reflect.Pointer {
		return text.String()
	}
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64, reflect.Uint, reflect.Uint32:
		return v.Interface()
	case reflect.Slice:
		if isScalar(v.Type().Elem()) && !strings.HasPrefix(v.Type().Elem().Kind().String(), "func") {
			return v.Interface()
		}
	}
	return nil
}
