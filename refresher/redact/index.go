package redact

import (
	"math/bits"
	"slices"
	"strings"

	"iam-token-refresher/refresher"
)

// A text is searched for all values at once: each value is known by windows of
// 8 bytes at every 64th of its offsets and at its end. The windows of a text,
// one at each of its bytes, are looked up in a small bit set first, in the map
// only when their bit is set; what is found there is compared with the value
// itself and followed in both directions. Any 71 bytes of a value hold one
// window, so that pieces are found too.
const (
	window   = 8
	stride   = 64
	minPiece = 24
	// maxSharers bounds the work at windows that many values have, such as
	// their common beginning.
	maxSharers = 8
)

// place is a window of a value: value[off:off+window].
type place struct {
	value refresher.Value
	off   int
}

type index struct {
	places map[uint64]place   // the first value with this window
	shared map[uint64][]place // further ones
	bits   []uint64           // a bit for each window, a few for windows of the past
	shift  uint
	past   int               // windows that were taken out since bits was made
	plain  []refresher.Value // too short, or without a window of their own
}

func (x *index) insert(v refresher.Value) {
	secret := v.Reveal()
	known := false
	for off := range offsets(len(secret)) {
		known = x.insertWindow(load(secret, off), place{v, off}) || known
	}
	if !known {
		x.plain = append(x.plain, v)
	}
}

func (x *index) insertWindow(key uint64, p place) bool {
	if x.places == nil {
		x.places = make(map[uint64]place)
		x.shared = make(map[uint64][]place)
	}
	if _, taken := x.places[key]; !taken {
		x.places[key] = p
		x.mark(key)
		return true
	}
	if len(x.shared[key]) >= maxSharers-1 {
		return false
	}
	x.shared[key] = append(x.shared[key], p)
	return true
}

func (x *index) drop(v refresher.Value) {
	secret := v.Reveal()
	for off := range offsets(len(secret)) {
		x.dropWindow(load(secret, off), place{v, off})
	}
	x.plain = slices.DeleteFunc(x.plain, func(o refresher.Value) bool { return o == v })
	if x.past > len(x.places) {
		x.rebuild()
	}
}

func (x *index) dropWindow(key uint64, p place) {
	others := slices.DeleteFunc(x.shared[key], func(o place) bool { return o == p })
	if x.places[key] == p {
		if len(others) == 0 {
			delete(x.places, key)
			x.past++
		} else {
			x.places[key], others = others[0], others[1:]
		}
	}
	if len(others) == 0 {
		delete(x.shared, key)
	} else {
		x.shared[key] = others
	}
}

// mark sets the bit of a window. The set is kept at 16 bits or more for each.
func (x *index) mark(key uint64) {
	if 16*(len(x.places)+x.past) > 64*len(x.bits) {
		x.rebuild()
		return
	}
	x.set(key)
}

func (x *index) rebuild() {
	// At least twice the need, so that this is rare.
	words := 1 << bits.Len(uint(len(x.places)/2+1))
	x.bits, x.shift, x.past = make([]uint64, words), uint(64-6-bits.Len(uint(words-1))), 0
	for key := range x.places {
		x.set(key)
	}
}

func (x *index) set(key uint64) {
	h := hash(key) >> x.shift
	x.bits[h/64] |= 1 << (h % 64)
}

// find appends the pieces of s that are values or pieces of values.
func (x *index) find(s string, found []span) []span {
	for _, v := range x.plain {
		secret := v.Reveal()
		for from := 0; ; {
			i := strings.Index(s[from:], secret)
			if i < 0 {
				break
			}
			found = append(found, span{from + i, from + i + len(secret)})
			from += i + 1
		}
	}
	if len(x.places) == 0 {
		return found
	}
	// The last piece that was followed: the value's further windows in it
	// tell nothing new.
	var last struct {
		value refresher.Value
		start int // of the value in s, had it all been there
		to    int
	}
	for i := 0; i+window <= len(s); i++ {
		key := load(s, i)
		h := hash(key) >> x.shift
		if x.bits[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		first, ok := x.places[key]
		if !ok {
			continue
		}
		others := x.shared[key]
		for n := -1; n < len(others); n++ {
			p := first
			if n >= 0 {
				p = others[n]
			}
			if p.value == last.value && i-p.off == last.start && i+window <= last.to {
				continue
			}
			piece, ok := follow(s, i, p)
			last.value, last.start, last.to = p.value, i-p.off, piece.to
			if ok {
				found = append(found, piece)
			}
		}
	}
	return found
}

// follow tells how much of p's value stands around s[i:], and whether that is
// all of it or enough of it.
func follow(s string, i int, p place) (span, bool) {
	secret := p.value.Reveal()
	from, to := i, i+window
	for from > 0 && i-from < p.off && s[from-1] == secret[p.off-(i-from)-1] {
		from--
	}
	for to < len(s) && p.off+to-i < len(secret) && s[to] == secret[p.off+to-i] {
		to++
	}
	return span{from, to}, to-from == len(secret) || to-from >= minPiece
}

// offsets yields where the windows of a value of n bytes are.
func offsets(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for off := 0; off < n-window; off += stride {
			if !yield(off) {
				return
			}
		}
		if n >= window {
			yield(n - window)
		}
	}
}

// load reads a window; the compiler makes it one instruction.
func load(s string, i int) uint64 {
	w := s[i : i+window]
	return uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
		uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
}

// hash spreads windows over the upper bits (multiplication by 2^64/φ).
func hash(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 }
