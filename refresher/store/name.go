package store

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// suffix ends the names of states, and of nothing else in the directory.
	suffix = ".json"
	// maxName leaves room for the suffixes of temporary and corrupt files below
	// the 255 bytes of a file name.
	maxName = 180
)

// fileName is the name of a token's file. Bytes that a file name had better not
// have become %XX.
func fileName(token string) (string, error) {
	if token == "" {
		return "", errors.New("a token without a name has no state")
	}
	var b strings.Builder
	for i := range len(token) {
		if c := token[i]; plain(c, i == 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() > maxName {
		return "", fmt.Errorf("the token's name is too long for a file: at most %d letters and digits", maxName)
	}
	return b.String() + suffix, nil
}

func plain(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	case c == '.', c == '_', c == '-':
		return !first // neither hidden nor an option to a shell's rm
	}
	return false
}
