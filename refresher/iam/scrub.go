package iam

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxMessage is how much of a service's own words an error repeats, in bytes.
const maxMessage = 200

const removed = "[removed]"

// secretPrefixes are how the secrets of this cloud begin, JWTs included.
// https://yandex.cloud/en/docs/iam/concepts/authorization/iam-token#token-format
var secretPrefixes = [...]string{"t1.", "rt1.", "s1.", "c1.", "y0_", "y1_", "y2_", "y3_", "y4_", "y5_", "y6_", "eyJ", "AQVN"}

// opaque is from what length on a run of base64 characters is taken for a
// secret of unknown shape. Resource ids have 20 characters, UUIDs 36.
const opaque = 40

// quote makes somebody else's words fit for an error: secrets are taken out,
// those given and those that look like one, then they are cut and quoted.
// It returns "" for nothing.
func quote(words string, secrets ...string) string {
	words = cut(scrub(strings.TrimSpace(words), secrets...))
	if words == "" {
		return ""
	}
	return strconv.Quote(words)
}

// cut shortens s to maxMessage bytes, not within a character.
func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	end := maxMessage - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// scrub replaces what is or looks like a secret.
func scrub(s string, secrets ...string) string {
	for _, secret := range secrets {
		if len(secret) >= 4 { // shorter ones would only garble the text
			s = strings.ReplaceAll(s, secret, removed)
		}
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		if !isTokenByte(s[i]) {
			out.WriteByte(s[i])
			i++
			continue
		}
		end := i
		for end < len(s) && isTokenByte(s[end]) {
			end++
		}
		out.WriteString(scrubRun(s[i:end]))
		i = end
	}
	return out.String()
}

// scrubRun replaces the secret in a run of token bytes. The run may begin with
// the name of a parameter: token=t1.…
func scrubRun(run string) string {
	for i := range len(run) {
		if i > 0 && isWordByte(run[i-1]) {
			continue
		}
		for _, prefix := range secretPrefixes {
			if strings.HasPrefix(run[i:], prefix) && len(run)-i >= len(prefix)+4 {
				return run[:i] + removed
			}
		}
	}
	if isOpaque(run) {
		return removed
	}
	return run
}

// isOpaque tells whether a run looks like a key or token of some other kind:
// long, and not a path, a URL or dotted names, whose words are short.
func isOpaque(run string) bool {
	longest, word := 0, 0
	for i := range len(run) {
		switch run[i] {
		case '.', '/':
			word = 0
		default:
			word++
			longest = max(longest, word)
		}
	}
	if longest >= opaque {
		return true
	}
	// Base64 has slashes too; a path begins with one.
	return len(run) >= opaque && run[0] != '/' && !strings.Contains(run, ".") && hasAllKinds(run)
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
	return isWordByte(b) || b == '-' || b == '.' || b == '=' || b == '+' || b == '/' || b == '~'
}
