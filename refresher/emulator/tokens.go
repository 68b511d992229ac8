package emulator

import (
	crand "crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// tokenKind tells IAM tokens from OAuth access tokens.
type tokenKind uint8

const (
	iamToken tokenKind = iota
	oauthToken
)

// token is one issued value. Its fields but revoked never change.
type token struct {
	value   string
	kind    tokenKind
	owner   string // account
	key     string // id of the key that it was issued for; may be empty
	scope   string // of OAuth tokens
	issued  time.Time
	expires time.Time
	revoked bool // guarded by the registry's lock
}

// registry knows the issued tokens. Safe for concurrent use.
//
// Memory: a token is forgotten a minute after its end (nobody accepts it
// either way); the values alone are kept longer, for secret searches, but at
// most as many as keep says.
type registry struct {
	format string
	keep   int

	mu      sync.Mutex
	byValue map[string]*token
	last    map[lastKey]*token
	sweepAt int // size of byValue at which it is swept next

	values []string // a ring once it has keep elements
	next   int
}

type lastKey struct {
	kind  tokenKind
	owner string
}

const forgetAfter = time.Minute

func newRegistry(format string, keep int) *registry {
	return &registry{
		format: format, keep: keep, sweepAt: 1024,
		byValue: map[string]*token{}, last: map[lastKey]*token{},
	}
}

// order is what is asked of the registry.
type order struct {
	kind     tokenKind
	owner    string
	key      string
	scope    string
	lifetime time.Duration
	// reissue is the share of the lifetime in which the last token of the
	// owner is given again.
	reissue float64
	// same gives the owner's last token again, whatever became of it.
	same bool
	// expired issues a token whose end was a minute ago.
	expired bool
	// aside issues a token that is not the owner's last one, so that it is
	// never given again.
	aside bool
}

func (r *registry) issue(o order, now time.Time) token {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := lastKey{o.kind, o.owner}
	if last := r.last[k]; last != nil && !o.expired && !o.aside {
		age := now.Sub(last.issued)
		young := float64(age) < o.reissue*float64(last.expires.Sub(last.issued))
		if o.same || young && !last.revoked {
			return *last
		}
	}
	t := &token{
		kind: o.kind, owner: o.owner, key: o.key, scope: o.scope,
		issued: now, expires: now.Add(o.lifetime), value: r.newValue(o.kind),
	}
	if o.expired {
		t.issued, t.expires = now.Add(-time.Minute-o.lifetime), now.Add(-time.Minute)
	}
	r.sweep(now)
	r.byValue[t.value] = t
	if !o.expired && !o.aside {
		r.last[k] = t
	}
	r.remember(t.value)
	return *t
}

// lookup returns a copy of the token with this value.
func (r *registry) lookup(value string) (token, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.byValue[value]
	if t == nil {
		return token{}, false
	}
	return *t, true
}

func (r *registry) revoke(value string) (token, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.byValue[value]
	if t == nil {
		return token{}, false
	}
	t.revoked = true
	return *t, true
}

// revokeIf revokes all tokens that match and returns how many there were.
func (r *registry) revokeIf(match func(token) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, t := range r.byValue {
		if !t.revoked && match(*t) {
			t.revoked = true
			n++
		}
	}
	return n
}

// remember keeps a value for secret searches.
func (r *registry) remember(value string) {
	if len(r.values) < r.keep {
		r.values = append(r.values, value)
		return
	}
	if r.keep > 0 {
		r.values[r.next] = value
		r.next = (r.next + 1) % r.keep
	}
}

func (r *registry) rememberAlso(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		r.remember(v)
	}
}

func (r *registry) issuedValues() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.values[r.next:], r.values[:r.next])
}

// sweep forgets what has long expired. It costs a constant per issued token.
func (r *registry) sweep(now time.Time) {
	if len(r.byValue) < r.sweepAt {
		return
	}
	over := func(t *token) bool { return now.Sub(t.expires) > forgetAfter }
	for v, t := range r.byValue {
		if over(t) {
			delete(r.byValue, v)
		}
	}
	for k, t := range r.last {
		if over(t) {
			delete(r.last, k)
		}
	}
	r.sweepAt = 2*len(r.byValue) + 1024
}

// newValue makes a random token of a realistic length.
func (r *registry) newValue(kind tokenKind) string {
	switch {
	case kind == oauthToken && r.format == FormatNew:
		return "oa9:" + randomText(54+rand.IntN(8))
	case kind == oauthToken:
		return "y0_" + randomText(42+rand.IntN(8))
	case r.format == FormatNew:
		b := randomBytes(180 + rand.IntN(200))
		return "ycx9:iam/" + hex.EncodeToString(b[:16]) + ":" + base64.RawURLEncoding.EncodeToString(b)
	}
	b := randomBytes(64 + 230 + rand.IntN(350))
	return "t1." + base64.URLEncoding.EncodeToString(b[64:]) + "." + base64.URLEncoding.EncodeToString(b[:64])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = crand.Read(b) // never fails
	return b
}

// randomText is n random bytes as base64url without padding.
func randomText(n int) string { return base64.RawURLEncoding.EncodeToString(randomBytes(n)) }
