package textfile

import (
	"encoding/binary"
	"testing"
	"unicode/utf16"
)

func TestTextIsTakenWithAByteOrderMarkAndRefusedInUTF16(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{", "{}", "y0_token\n", "\x00\x00"} {
		for _, mark := range []string{"", "\xef\xbb\xbf"} {
			if got, err := Clean([]byte(mark + content)); err != nil || string(got) != content {
				t.Errorf("%q becomes %q, %v", mark+content, got, err)
			}
		}
	}
	for _, text := range []string{"{}", "\ufeff{}", "\ufeff", "y0_token"} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			var content []byte
			for _, unit := range utf16.Encode([]rune(text)) {
				content = order.AppendUint16(content, unit)
			}
			if got, err := Clean(content); err == nil {
				t.Errorf("%q becomes %q", content, got)
			}
		}
	}
}
