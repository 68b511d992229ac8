// Package redact is the last filter before text leaves the process: it replaces
// the values of tokens, known by value or by their shape.
//
// It is a safety net: no code may log a secret because this filter exists.
//
// By value it finds, anywhere in a text and also inside longer words: every
// registered value of at least [MinValue] bytes, and every piece of one that is
// long enough (71 bytes; shorter ones down to 24 by luck). That covers values
// cut short, JSON-quoted or URL-escaped, as long as so much is left between two
// escapes. By shape it finds what Yandex' secrets look like, registered or not:
// IAM and OAuth tokens, refresh tokens, sessions, cookies, API keys, JWTs, and
// private keys in PEM. Anything encoded as a whole (base64, compressed) passes.
package redact

import (
	"strings"
	"sync"

	"iam-token-refresher/refresher"
)

// Marker stands in place of what was taken out.
const Marker = "[redacted]"

// MinValue is the length in bytes of the shortest value that is looked for.
// Shorter ones are no secrets, and cannot be told from ordinary words.
const MinValue = 4

// Filter knows the live values. The zero Filter is ready; its methods may be
// called concurrently.
type Filter struct {
	mu     sync.RWMutex
	values index
	count  map[refresher.Value]int // of whom each is a recent value
	recent map[string][2]refresher.Value
}

// Remember makes the filter look for v as the newest value of owner, for
// instance of a token, and forgets all but the two newest: what is being
// replaced is still on its way.
func (f *Filter) Remember(owner string, v refresher.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.recent[owner]
	if kept[0] == v {
		return
	}
	f.add(v)
	f.remove(kept[1])
	if f.recent == nil {
		f.recent = make(map[string][2]refresher.Value)
	}
	// The owner's name is copied: it may be a piece of something large.
	f.recent[strings.Clone(owner)] = [2]refresher.Value{v, kept[0]}
}

func (f *Filter) add(v refresher.Value) {
	if v.Len() < MinValue {
		return
	}
	if f.count == nil {
		f.count = make(map[refresher.Value]int)
	}
	f.count[v]++
	if f.count[v] == 1 {
		f.values.insert(v)
	}
}

func (f *Filter) remove(v refresher.Value) {
	switch f.count[v] {
	case 0:
		return
	case 1:
		delete(f.count, v)
		f.values.drop(v)
	default:
		f.count[v]--
	}
}

// String returns s with a [Marker] in place of each secret. A text without one
// is returned as it is, without an allocation.
func (f *Filter) String(s string) string {
	if len(s) < MinValue {
		return s
	}
	var room [8]span
	found := room[:0]
	f.mu.RLock()
	found = f.values.find(s, found)
	f.mu.RUnlock()
	found = findShapes(s, found)
	if len(found) == 0 {
		return s
	}
	return replace(s, found)
}
