package redact

import "strings"

// minSecret is the least length of the random part of what is taken for a
// secret by its shape.
const minSecret = 20

// findShapes appends the pieces of s that look like secrets.
func findShapes(s string, found []span) []span {
	for i := 0; i+minSecret < len(s); i++ {
		// Second bytes are looked at first: they are the rarer ones.
		var to int
		switch s[i+1] {
		case '1':
			if to = dotted(s, i); to == 0 {
				to = oauth(s, i) // y1_
			}
		case 't':
			if s[i] == 'r' && s[i+2] == '1' {
				to = dotted(s, i+1)
			}
		case 'y', 'Q':
			to = encoded(s, i)
		case '-':
			to = privateKey(s, i)
		default:
			if s[i+2] == '_' {
				to = oauth(s, i)
			}
		}
		switch {
		case to == 0:
		case s[i+1] == '-' || startsWord(s, i):
			found = append(found, span{i, to})
			i = to - 1
		}
	}
	return found
}

// dotted finds t1.…, s1.…, c1.… and what is left of rt1.…: an IAM token, a
// session, a cookie, a refresh token. It returns the end, 0 when there is none at i.
func dotted(s string, i int) int {
	from := i + 2
	switch s[i] {
	case 't', 's', 'c':
	default:
		return 0
	}
	if s[from] != '.' {
		return 0
	}
	from++
	// A host's name has short labels.
	if n := run(s, from, false); n < minSecret {
		return 0
	}
	return from + run(s, from, true)
}

// oauth finds y0_….
func oauth(s string, i int) int {
	if s[i] != 'y' || s[i+1] < '0' || s[i+1] > '6' || s[i+2] != '_' {
		return 0
	}
	return long(s, i+3)
}

// encoded finds eyJ….eyJ….…, a JWT, and AQVN…, an API key.
func encoded(s string, i int) int {
	switch {
	case strings.HasPrefix(s[i:], "AQVN"):
		return long(s, i+4)
	case strings.HasPrefix(s[i:], "eyJ"):
		dot := i + run(s, i, false)
		if strings.HasPrefix(s[dot:], ".eyJ") {
			return dot + run(s, dot, true)
		}
	}
	return 0
}

func long(s string, from int) int {
	if n := run(s, from, false); n >= minSecret {
		return from + n
	}
	return 0
}

// privateKey finds a PEM block, whole or without its end.
func privateKey(s string, i int) int {
	const begin, kind, end, dashes = "-----BEGIN ", "PRIVATE KEY-----", "-----END ", "-----"
	if !strings.HasPrefix(s[i:], begin) {
		return 0
	}
	label := strings.Index(s[i+len(begin):], dashes)
	if label < 0 || !strings.HasSuffix(s[i:i+len(begin)+label+len(dashes)], kind) {
		return 0
	}
	body := i + len(begin) + label + len(dashes)
	at := strings.Index(s[body:], end)
	if at < 0 {
		return len(s)
	}
	at += body + len(end)
	if n := strings.Index(s[at:], dashes); n >= 0 {
		return at + n + len(dashes)
	}
	return len(s)
}

// run counts the bytes of the base64url alphabet from s[i] on; dotted: and dots
// and padding.
func run(s string, i int, dotted bool) int {
	n := 0
	for i+n < len(s) && (wordByte(s[i+n]) || s[i+n] == '-' || dotted && (s[i+n] == '.' || s[i+n] == '=')) {
		n++
	}
	return n
}

func wordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// startsWord tells whether a word begins at i. A URL escape or a quoted newline
// before it is no part of it.
func startsWord(s string, i int) bool {
	return i == 0 || !wordByte(s[i-1]) || i >= 3 && s[i-3] == '%' || i >= 2 && s[i-2] == '\\'
}
