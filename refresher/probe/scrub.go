package probe

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxMessage is how much of a service's own message is passed on, in bytes.
	maxMessage = 200
	// maxRun is the longest word of a token's alphabet that is passed on. Ids
	// are shorter, every token that these services issue is longer.
	maxRun = 40
	// minPiece is the shortest piece of a secret that is taken for one.
	minPiece = 12
	redacted = "[redacted]"
)

// message makes a service's own words fit to be shown: one line, short, and
// without what was sent or looks like a secret.
func message(s string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	return cut(scrub(oneLine(s), secrets), maxMessage)
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

// scrub replaces words that look like secrets or hold a piece of one.
func scrub(s string, secrets []string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) && inToken(s[n]) {
			n++
		}
		switch word := s[:n]; {
		case n == 0:
			n = 1
			b.WriteByte(s[0])
		case n > maxRun, n >= minPiece && (secretPrefix(word) || pieceOf(word, secrets)):
			b.WriteString(redacted)
		default:
			b.WriteString(word)
		}
		s = s[n:]
	}
	return b.String()
}

func inToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~+/=%", c) >= 0
}

func secretPrefix(word string) bool {
	for _, p := range [...]string{"t1.", "rt1.", "s1.", "c1.", "eyJ", "AQVN"} {
		if strings.HasPrefix(word, p) {
			return true
		}
	}
	return word[0] == 'y' && '0' <= word[1] && word[1] <= '6' && word[2] == '_'
}

// pieceOf tells whether word holds a piece of a secret.
func pieceOf(word string, secrets []string) bool {
	for i := 0; i+minPiece <= len(word); i++ {
		if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(secret, word[i:i+minPiece]) }) {
			return true
		}
	}
	return false
}

// cut shortens s to at most limit bytes of whole runes.
func cut(s string, limit int) string {
	const dots = "…"
	if len(s) <= limit {
		return s
	}
	n := limit - len(dots)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}
