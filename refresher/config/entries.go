package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// entry is one key of a map.
type entry struct {
	key   string
	at    place // of the key
	value ast.Node
}

// resolve follows anchors and aliases. done must be called when the node was
// decoded.
func (d *decoder) resolve(n ast.Node) (target ast.Node, done func()) {
	entered := 0
	for {
		switch m := n.(type) {
		case *ast.AnchorNode:
			n = m.Value
			continue
		case *ast.AliasNode:
			n = d.doc.aliases[m]
			entered++
			continue
		}
		break
	}
	if d.inAlias += entered; d.inAlias > 0 {
		if d.aliasNodes++; d.aliasNodes > maxAliasNodes && !d.exhausted {
			d.fail(placeOf(n), "", "aliases (*) repeat too much: the configuration would be too large")
			d.exhausted = true
		}
	}
	if entered == 0 {
		return n, func() {}
	}
	return n, func() { d.inAlias -= entered }
}

// entries lists the keys of a map, those merged with << after its own. ok is
// false when n is no map; that was reported.
func (d *decoder) entries(n ast.Node, path, what string) (list []entry, ok bool) {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode:
		return nil, true
	default:
		d.failAt(n, path, fmt.Sprintf("must be %s, not %s", what, describe(n)))
		return nil, false
	}
	if len(values) > maxKeys {
		d.failAt(n, path, problemKeys)
		return nil, false
	}
	list = make([]entry, 0, len(values))
	var merged []entry
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, d.merged(v.Value, path, what)...)
			continue
		}
		tk := v.Key.GetToken()
		switch v.Key.(type) {
		case *ast.AliasNode, *ast.AnchorNode:
			d.fail(placeOfToken(tk), path, "a key is plain text, without & and *")
			continue
		}
		e := entry{key: tk.Value, at: placeOfToken(tk), value: v.Value}
		if first, again := find(list, e.key); again {
			d.fail(e.at, path, fmt.Sprintf("key %s is given twice, first in line %d", quotedKey(tk.Value), first.at.line))
			continue
		}
		list = append(list, e)
	}
	for _, e := range merged {
		if _, own := find(list, e.key); !own {
			list = append(list, e)
		}
	}
	return list, true
}

func quotedKey(key string) string {
	if key, _, _ = strings.Cut(key, "\n"); len(key) > 60 {
		return strconv.Quote(strings.ToValidUTF8(key[:20], "")) + "…"
	}
	return strconv.Quote(key)
}

// merged lists what << brings in.
func (d *decoder) merged(n ast.Node, path, what string) []entry {
	n, done := d.resolve(n)
	defer done()
	if d.exhausted {
		return nil
	}
	maps := []ast.Node{n}
	if list, ok := n.(*ast.SequenceNode); ok {
		maps = list.Values
	}
	var all []entry
	for _, m := range maps {
		m, done := d.resolve(m)
		list, _ := d.entries(m, path, what)
		done()
		d.aliasNodes += len(list)
		for _, e := range list {
			if _, again := find(all, e.key); !again {
				all = append(all, e)
			}
		}
	}
	return all
}

func find(list []entry, key string) (entry, bool) {
	for i := range list {
		if list[i].key == key {
			return list[i], true
		}
	}
	return entry{}, false
}
