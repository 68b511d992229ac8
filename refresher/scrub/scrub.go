// Package scrub takes secrets out of what others say, so that it can be shown.
package scrub

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Prefixes are how Yandex' secrets begin: refresh, IAM and session tokens,
// cookies, JWTs, API keys, OAuth tokens. One comes before those that it ends
// with.
// https://yandex.cloud/en/docs/iam/concepts/authorization/iam-token#token-format
const Prefixes = "rt1. t1. s1. c1. eyJ AQVN y0_ y1_ y2_ y3_ y4_ y5_ y6_"

// Prefix is the length of the one of [Prefixes] that s begins with; 0 if none.
func Prefix(s string) int {
	for prefix := range strings.FieldsSeq(Prefixes) {
		if strings.HasPrefix(s, prefix) {
			return len(prefix)
		}
	}
	return 0
}

const (
	// maxMessage is how much of somebody's own words is passed on, in bytes.
	maxMessage = 200
	redacted   = "[redacted]"

	minValue = 4 // bytes of a given secret: shorter ones would only garble the text
	minTail  = 4 // bytes after a prefix
	// minPiece is the shortest piece of a given secret that is taken for one.
	minPiece = 12
	// opaque is from what length on a run of base64 characters is taken for a
	// secret of unknown shape. Resource ids have 20 characters, UUIDs 36.
	opaque = 40
	// opaqueWord is the same for a word of a longer run, where it looks random.
	opaqueWord = 20
)

// Message makes somebody's own words fit to be shown: one line, short, and
// without the given secrets and what looks like one.
func Message(words string, secrets ...string) string {
	return cut(hide(oneLine(replace(words, secrets)), secrets))
}

// Text is [Message] of a text that keeps its lines and its length.
func Text(s string, secrets ...string) string {
	return hide(replace(s, secrets), secrets)
}

func replace(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) >= minValue {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	return s
}

func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// cut shortens s to maxMessage bytes of whole characters.
func cut(s string) string {
	const dots = "…"
	if len(s) <= maxMessage {
		return s
	}
	n := maxMessage - len(dots)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}

// hide replaces what looks like a secret or holds a piece of one.
func hide(s string, secrets []string) string {
	var out strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) && isTokenByte(s[n]) {
			n++
		}
		if n == 0 {
			out.WriteByte(s[0])
			s = s[1:]
			continue
		}
		out.WriteString(hideRun(s[:n], secrets))
		s = s[n:]
	}
	return out.String()
}

// hideRun replaces the secret in a run of token bytes. The run may begin with
// the name of a parameter: token=t1.…
func hideRun(run string, secrets []string) string {
	for i := range len(run) {
		if i > 0 && isWordByte(run[i-1]) {
			continue
		}
		if n := Prefix(run[i:]); n > 0 && len(run)-i >= n+minTail {
			return hideRun(run[:i], secrets) + redacted
		}
	}
	if isOpaque(run) || hasPiece(run, secrets) {
		return redacted
	}
	return run
}

// hasPiece tells whether run holds a piece of a secret.
func hasPiece(run string, secrets []string) bool {
	for i := 0; i+minPiece <= len(run); i++ {
		if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(secret, run[i:i+minPiece]) }) {
			return true
		}
	}
	return false
}

// isOpaque tells whether a run looks like a key or token of some other kind:
// long, and not a path, a URL or dotted names, whose words are short.
func isOpaque(run string) bool {
	if len(run) < opaque {
		return false
	}
	for word := range strings.FieldsFuncSeq(run, func(r rune) bool { return r == '.' || r == '/' }) {
		if len(word) >= opaque || len(word) >= opaqueWord && hasAllKinds(word) {
			return true
		}
	}
	// Base64 has slashes too; a path begins with one.
	return run[0] != '/' && !strings.Contains(run, ".") && hasAllKinds(run)
}

func hasAllKinds(s string) bool {
	return strings.ContainsAny(s, "0123456789") &&
		strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") &&
		strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

func isTokenByte(b byte) bool {
	return isWordByte(b) || strings.IndexByte("-.=+/~%", b) >= 0
}
