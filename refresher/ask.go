package refresher

import (
	"context"
	"slices"
)

// Hints for one mint, to the few sources that keep a value and may give it
// again. A hint travels in the context because it is about one call, and has to
// reach a source through whatever is wrapped around it.

type (
	refusedKey  struct{}
	lookOnlyKey struct{}
)

// WithRefused returns a context for a mint that says which values were rejected
// as tokens: a source that would give one of them again gets another first.
func WithRefused(ctx context.Context, values ...Value) context.Context {
	values = slices.DeleteFunc(values, Value.IsZero)
	if len(values) == 0 {
		return ctx
	}
	return context.WithValue(ctx, refusedKey{}, values)
}

// Refused tells whether v is among the values that were rejected.
func Refused(ctx context.Context, v Value) bool {
	values, _ := ctx.Value(refusedKey{}).([]Value)
	return slices.Contains(values, v)
}

// WithLookOnly returns a context for a mint that must leave everything as it
// is: a source that keeps a value gives that, and does not renew it.
func WithLookOnly(ctx context.Context) context.Context {
	return context.WithValue(ctx, lookOnlyKey{}, true)
}

// LookOnly tells whether the mint must leave everything as it is.
func LookOnly(ctx context.Context) bool { return ctx.Value(lookOnlyKey{}) != nil }
