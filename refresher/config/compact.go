package config

import (
	"reflect"
	"runtime"
	"strings"
)

// largeDocument is the size in bytes from which on a document is worth a
// collection: about fifty tokens.
const largeDocument = 16 << 10

// compact returns a copy of c that lies together in memory. What a document of
// a thousand tokens is decoded from takes 25 MB, and c, a hundredth of that,
// lies all over it: little of it could be given back to the system. It is to be
// called when nothing refers to the document any more.
func compact(c *Config) *Config {
	runtime.GC() // so that the copy, and what is built next, take the document's place
	fresh := *c
	compactor{}.deepen(reflect.ValueOf(&fresh).Elem())
	return &fresh
}

// compactor has the copies of all strings: a thousand tokens say much the same.
type compactor map[string]string

// deepen replaces what v refers to by copies. What unexported fields refer to is
// immutable and stays.
func (c compactor) deepen(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(c.text(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			fresh := reflect.New(v.Type().Elem())
			fresh.Elem().Set(v.Elem())
			c.deepen(fresh.Elem())
			v.Set(fresh)
		}
	case reflect.Interface:
		if !v.IsNil() {
			fresh := reflect.New(v.Elem().Type()).Elem()
			fresh.Set(v.Elem())
			c.deepen(fresh)
			v.Set(fresh)
		}
	case reflect.Slice:
		if !v.IsNil() {
			fresh := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(fresh, v)
			for i := range fresh.Len() {
				c.deepen(fresh.Index(i))
			}
			v.Set(fresh)
		}
	case reflect.Struct:
		if s, ok := v.Addr().Interface().(*Schedule); ok {
			s.text = c.text(s.text)
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				c.deepen(v.Field(i))
			}
		}
	}
}

func (c compactor) text(s string) string {
	kept, ok := c[s]
	if !ok {
		kept = strings.Clone(s)
		c[kept] = kept
	}
	return kept
}
