// Package textfile reads what people write into files.
package textfile

import (
	"bytes"
	"errors"
)

// Clean returns the content of a file that a person may have written, on whatever
// system, without the byte order mark that some editors put before UTF-8. The
// error continues a sentence about the file; what is in it, is not told.
func Clean(content []byte) ([]byte, error) {
	// PowerShell's > writes UTF-16 with a mark; without one, what we read begins
	// with a character of ASCII.
	utf16 := bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) ||
		len(content) >= 2 && (content[0] == 0) != (content[1] == 0)
	if utf16 {
		return nil, errors.New("is UTF-16, as PowerShell writes it: save it as UTF-8")
	}
	return bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")), nil
}
