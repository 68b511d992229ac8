package refresher

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

const redacted = "[redacted]"

// Value is the secret of a token. It is comparable: two Values are equal when
// their secrets are. The zero Value is no secret at all.
//
// A Value formats, logs and marshals as redacted, also nested in unexported
// fields of other structs: fmt does not call methods there, so that the secret
// must not be reachable by printing, and is kept behind a handle. [Value.Reveal]
// is the only way out.
type Value struct{ secret unique.Handle[string] }

// NewValue makes a Value of a secret. The empty string gives the zero Value.
func NewValue(secret string) Value {
	if secret == "" {
		return Value{}
	}
	return Value{secret: unique.Make(secret)}
}

// Reveal returns the secret. Whoever calls it is responsible for where it goes.
func (v Value) Reveal() string {
	if v.IsZero() {
		return ""
	}
	return v.secret.Value()
}

// IsZero tells whether there is no secret.
func (v Value) IsZero() bool { return v == Value{} }

// Len is the length of the secret in bytes: what may be told about it.
func (v Value) Len() int { return len(v.Reveal()) }

// String implements [fmt.Stringer]; it is always redacted.
func (v Value) String() string { return redacted }

// GoString implements [fmt.GoStringer]; it is always redacted.
func (v Value) GoString() string { return redacted }

// Format implements [fmt.Formatter] for every verb; it is always redacted.
func (v Value) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText implements [encoding.TextMarshaler]; it is always redacted.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer]; it is always redacted.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }
