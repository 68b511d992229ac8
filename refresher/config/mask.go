package config

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"iam-token-refresher/refresher/scrub"
)

// Keys whose text is a secret when it is neither a path nor a template. None
// of them is ours; people write them all the same.
var secretKeys = []string{
	"token", "secret", "password", "passwd", "passphrase", "private_key", "api_key", "apikey",
	"authorization", "cookie",
}

const (
	minSecret  = 8  // characters after a prefix
	minUnknown = 32 // characters that look random, without a prefix
	minInPath  = 24 // the same between slashes
)

// maskLine returns line number n (from 1) fit to be shown: what is or may be
// a secret is replaced by asterisks, character by character, so that columns
// stay right; tabs and control characters become blanks.
func maskLine(lines []string, n int) string {
	if n < 1 || n > len(lines) {
		return ""
	}
	line := lines[n-1]
	if insideHeaders(lines, n) || secretContinuation(lines, n) {
		from := len(line) - len(strings.TrimLeft(line, " -"))
		if key, _, ok := strings.Cut(line[from:], ": "); ok && strings.IndexFunc(key, func(r rune) bool { return !isAlnum(r) && r != '-' }) < 0 {
			from += len(key) + 1
		}
		return printable(line[:from] + stars(line[from:]))
	}
	if i := keyEnd(line, "headers"); i >= 0 {
		line = line[:i] + stars(line[i:])
	}
	for _, key := range secretKeys {
		if i := keyEnd(line, key); i >= 0 && isPlainSecret(line[i:]) {
			line = line[:i] + stars(line[i:])
		}
	}
	return printable(maskShapes(line))
}

// maskShapes replaces whatever has the shape of a secret.
func maskShapes(s string) string {
	if i := strings.Index(s, "-----BEGIN"); i >= 0 {
		return maskShapes(s[:i]) + stars(s[i:])
	}
	s = maskURLs(s)
	var b strings.Builder
	afterBearer := false
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return !isSecretRune(r) })
		if n < 0 {
			n = len(s)
		}
		if n == 0 {
			_, n = utf8.DecodeRuneInString(s)
			b.WriteString(s[:n])
			afterBearer = afterBearer && s[0] == ' ' // "OAuth y0_…", and not the key "oauth: "
			s = s[n:]
			continue
		}
		word := s[:n]
		s = s[n:]
		if afterBearer && len(word) >= minSecret {
			b.WriteString(stars(word))
		} else {
			b.WriteString(maskWord(word))
		}
		switch strings.ToLower(word) {
		case "bearer", "oauth", "basic", "api-key":
			afterBearer = true
		default:
			afterBearer = false
		}
	}
	return b.String()
}

// maskURLs replaces the user and password of URLs, and their queries: what an
// API wants there may be a key, whatever it is called.
func maskURLs(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "://")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("://")
		end := strings.IndexAny(after, " \t\"'")
		if end < 0 {
			end = len(after)
		}
		if at := strings.LastIndexByte(after[:end], '@'); at >= 0 {
			b.WriteString(stars(after[:at]))
			after, end = after[at:], end-at
		}
		if query := strings.IndexByte(after[:end], '?'); query >= 0 {
			b.WriteString(after[:query+1] + stars(after[query+1:end]))
			after = after[end:]
		}
		s = after
	}
}

func maskWord(word string) string {
	for i := range len(word) {
		n := scrub.Prefix(word[i:])
		if n > 0 && len(word)-i-n >= minSecret && (i == 0 || !isAlnum(rune(word[i-1]))) {
			return maskWord(word[:i]) + stars(word[i:])
		}
	}
	if strings.HasPrefix(word, "/") || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "../") {
		parts := strings.Split(word, "/")
		for i, part := range parts {
			if len(part) >= minInPath && looksRandom(part) {
				parts[i] = stars(part)
			}
		}
		return strings.Join(parts, "/")
	}
	if len(word) >= minUnknown && looksRandom(word) {
		return stars(word)
	}
	return word
}

// looksRandom: upper and lower case and digits, as in base64. Names and
// identifiers of the cloud have no upper case.
func looksRandom(s string) bool {
	return strings.IndexFunc(s, unicode.IsUpper) >= 0 &&
		strings.IndexFunc(s, unicode.IsLower) >= 0 &&
		strings.IndexFunc(s, unicode.IsDigit) >= 0
}

func isSecretRune(r rune) bool { return isAlnum(r) || strings.ContainsRune("+/=_.-", r) }

func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func stars(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' {
			return r
		}
		return '*'
	}, s)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// keyEnd returns where the value begins that follows a YAML key which ends
// with name, or -1.
func keyEnd(line, name string) int {
	lower := strings.ToLower(line)
	if len(lower) != len(line) {
		lower = line
	}
	for from := 0; ; {
		i := strings.Index(lower[from:], name)
		if i < 0 {
			return -1
		}
		end := from + i + len(name)
		rest := strings.TrimLeft(strings.TrimLeft(line[end:], `"'`), " ")
		if strings.HasPrefix(rest, ":") {
			return len(line) - len(rest) + 1
		}
		from = end
	}
}

// isPlainSecret tells whether the text after a key of secretKeys is the secret
// itself, and not a path, a template or further options.
func isPlainSecret(value string) bool {
	value = strings.TrimLeft(value, ` "'`)
	return value != "" && !strings.ContainsRune("{[/$|>&*#", rune(value[0])) && !strings.Contains(value, "{{")
}

// insideHeaders tells whether line n belongs to the value of a `headers` key
// of an earlier line.
func insideHeaders(lines []string, n int) bool {
	inside := false
	for _, parent := range parents(lines, n) {
		inside = inside || keyEnd(parent, "headers") >= 0
	}
	if inside {
		return true
	}
	// Braces may span lines without indentation.
	for i := n - 2; i >= 0; i-- {
		if end := keyEnd(lines[i], "headers"); end >= 0 {
			return opensMap(lines[i][end:] + " " + strings.Join(lines[i+1:n-1], " "))
		}
	}
	return false
}

// opensMap tells whether text begins with a brace that it does not close.
func opensMap(text string) bool {
	text = strings.TrimLeft(text, " ")
	if !strings.HasPrefix(text, "{") {
		return false
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		rest := text[i+1:]
		switch text[i] {
		case '"', '\'':
			if end := strings.IndexByte(rest, text[i]); end >= 0 {
				i += end + 1
			}
		case '{':
			if end := strings.Index(rest, "}}"); depth > 0 && strings.HasPrefix(rest, "{") && end >= 0 {
				i += end + 2 // a template
				continue
			}
			depth++
		case '}':
			if depth--; depth == 0 {
				return false
			}
		}
	}
	return true
}

// secretContinuation tells whether line n is text that belongs to a key of
// secretKeys above it.
func secretContinuation(lines []string, n int) bool {
	above := parents(lines, n)
	if len(above) == 0 || strings.Contains(lines[n-1], ": ") || strings.HasSuffix(lines[n-1], ":") {
		return false
	}
	for _, key := range secretKeys {
		if keyEnd(above[0], key) >= 0 {
			return true
		}
	}
	return false
}

// parents returns the lines above n that it is indented below, nearest first.
func parents(lines []string, n int) []string {
	indent := func(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }
	var above []string
	depth := indent(lines[n-1])
	for i := n - 2; i >= 0 && depth > 0; i-- {
		if strings.TrimSpace(lines[i]) != "" && indent(lines[i]) < depth {
			above = append(above, lines[i])
			depth = indent(lines[i])
		}
	}
	return above
}
