package sink

import (
	"bytes"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"iam-token-refresher/refresher"
)

// FileMode is the permission bits of a file or socket. Zero means that none
// were given. In YAML it is a quoted octal number, "0640": without quotes YAML
// readers do not agree on what 0640 is, and 640 is not octal at all.
type FileMode fs.FileMode

// ParseFileMode reads an octal number of three digits, or four with a leading
// zero. The error is a [*refresher.Invalid].
func ParseFileMode(s string) (FileMode, error) {
	digits := strings.TrimPrefix(s, "0o")
	n, err := strconv.ParseUint(digits, 8, 32)
	switch {
	case err != nil || len(digits) < 3 || len(digits) > 4:
		return 0, &refresher.Invalid{Problem: fmt.Sprintf(`%q is not a file mode: write three octal digits after a zero, such as "0640"`, s)}
	case n > 0o777:
		return 0, &refresher.Invalid{Problem: fmt.Sprintf(`%q has setuid, setgid or sticky bits: start with a zero, such as "0640"`, s)}
	case n == 0:
		return 0, &refresher.Invalid{Problem: fmt.Sprintf(`%q lets nobody in: write for instance "0600"`, s)}
	}
	return FileMode(n), nil
}

// UnmarshalYAML gets the bytes of the YAML node, quotes included.
func (m *FileMode) UnmarshalYAML(raw []byte) error {
	s := string(bytes.TrimSpace(raw))
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '"' && s[0] != '\'' {
		example := "0640"
		if mode, err := ParseFileMode(s); err == nil {
			example = mode.String()
		}
		return &refresher.Invalid{Problem: fmt.Sprintf(`a mode is a quoted octal number: write "%s", with the quotes`, example)}
	}
	mode, err := ParseFileMode(s[1 : len(s)-1])
	if err != nil {
		return err
	}
	*m = mode
	return nil
}

// String is the mode as it is written in YAML, without quotes; empty for zero.
func (m FileMode) String() string {
	if m == 0 {
		return ""
	}
	return fmt.Sprintf("%04o", uint32(m))
}

// MarshalText implements [encoding.TextMarshaler].
func (m FileMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// or returns m, or d when there is none.
func (m FileMode) or(d FileMode) FileMode {
	if m == 0 {
		return d
	}
	return m
}

func (m FileMode) validateFile() error {
	switch {
	case m&0o111 != 0:
		return &refresher.Invalid{Field: "mode", Problem: fmt.Sprintf(`"%s" makes the file executable: a token is not a program, write for instance "0640"`, m)}
	case m&0o002 != 0:
		return &refresher.Invalid{Field: "mode", Problem: fmt.Sprintf(`"%s" lets everybody change the token: write for instance "0640", or "0644" to let everybody read it`, m)}
	}
	return nil
}

func (m FileMode) validateSocket() error {
	if m&0o111 != 0 {
		return &refresher.Invalid{Field: "mode", Problem: fmt.Sprintf(`"%s" makes the socket executable: write for instance "0660"`, m)}
	}
	return nil
}
