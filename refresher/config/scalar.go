package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"iam-token-refresher/refresher"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	scheduleType = reflect.TypeFor[Schedule]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	yamlType     = reflect.TypeFor[yamlUnmarshaler]()
)

// yamlUnmarshaler decodes a scalar as it is written, quotes included.
type yamlUnmarshaler interface{ UnmarshalYAML(written []byte) error }

// parseDuration is time.ParseDuration with messages for people, and without
// negative durations.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case strings.HasPrefix(text, "-"):
		return 0, errors.New("is negative, which a duration cannot be")
	case err != nil && isDigits(text):
		return 0, errors.New("has no unit: write for example 90s, 15m or 2h30m")
	case err != nil:
		return 0, errors.New("is no duration: write for example 90s, 15m or 2h30m (units: ms, s, m, h)")
	}
	return d, nil
}

// problemOf is what to say of a value that could not decode itself.
func problemOf(err error) string {
	var mistake *refresher.Invalid
	if errors.As(err, &mistake) {
		return mistake.Problem
	}
	return err.Error()
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// scalar decodes a node that is neither map nor list into v.
func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	switch {
	case v.Type() == durationType:
		text, ok := plainText(n)
		if !ok {
			d.failAt(n, path, "must be a duration: 90s, 15m or 2h30m")
			return
		}
		duration, err := parseDuration(text)
		if err != nil {
			d.failAt(n, path, d.quoted(n, text)+err.Error())
			return
		}
		v.SetInt(int64(duration))
	case reflect.PointerTo(v.Type()).Implements(yamlType):
		if _, ok := plainText(n); !ok {
			d.failAt(n, path, "must be text, not "+describe(n))
			return
		}
		if err := v.Addr().Interface().(yamlUnmarshaler).UnmarshalYAML([]byte(strings.TrimSpace(n.GetToken().Origin))); err != nil {
			d.failAt(n, path, problemOf(err))
		}
	case reflect.PointerTo(v.Type()).Implements(textType):
		text, ok := d.text(n, path)
		if !ok {
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			problem := problemOf(err)
			if v.Type() == scheduleType {
				problem = d.quoted(n, text) + problem
			}
			d.failAt(n, path, problem)
		}
	case v.Kind() == reflect.String:
		if text, ok := d.text(n, path); ok {
			v.SetString(strings.Clone(text)) // text is a piece of the document, which can be forgotten then
		}
	case v.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.failAt(n, path, "must be true or false, without quotes")
			return
		}
		v.SetBool(b.Value)
	case v.CanInt(), v.CanUint():
		d.integer(n, v, path)
	case v.CanFloat():
		text, number := numberText(n)
		f, err := strconv.ParseFloat(text, 64)
		if !number || err != nil {
			d.failAt(n, path, "must be a number, without quotes")
			return
		}
		v.SetFloat(f)
	default:
		// A mistake in an option struct, not the user's.
		d.failAt(n, path, fmt.Sprintf("cannot be configured (Go type %s)", v.Type()))
	}
}

func (d *decoder) integer(n ast.Node, v reflect.Value, path string) {
	const problem = "must be a whole number, without quotes"
	text, number := numberText(n)
	if !number {
		d.failAt(n, path, problem)
		return
	}
	if v.CanInt() {
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v.OverflowInt(i) {
			d.failAt(n, path, problem)
			return
		}
		v.SetInt(i)
		return
	}
	u, err := strconv.ParseUint(text, 10, 64)
	if err != nil || v.OverflowUint(u) {
		d.failAt(n, path, problem+" and not negative")
		return
	}
	v.SetUint(u)
}

// text returns the text of a node that must be text. Numbers are refused: YAML
// would make 420 of 0644, and drop leading zeros of an identifier.
func (d *decoder) text(n ast.Node, path string) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	written, ok := plainText(n)
	switch {
	case !ok:
		d.failAt(n, path, "must be text, not "+describe(n))
	case strings.HasSuffix(path, "mode"):
		d.failAt(n, path, `must be written in quotes, in octal with a leading zero, for example "0640": YAML reads a bare number as decimal`)
	default:
		d.failAt(n, path, fmt.Sprintf("must be text: write it in quotes, \"%s\"", written))
	}
	return "", false
}

// plainText returns a scalar as it is written.
func plainText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func numberText(n ast.Node) (string, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// describe says what a node is.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a map of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.BoolNode:
		return "true or false"
	}
	return "a number"
}
