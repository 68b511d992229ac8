package textfile

import (
	"io/fs"
	"testing"
)

func TestTheGroupOfRootsFileIsHowWeReadIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode      fs.FileMode
		owner, us int
		want      fs.FileMode
	}{
		{0o600, 1000, 1000, 0},
		{0o640, 1000, 1000, 0o040},
		{0o440, 0, 65532, 0}, // a Secret with an fsGroup
		{0o444, 0, 65532, 0o004},
		{0o440, 0, 0, 0o040},
		{0o440, 1000, 65532, 0o040},
	} {
		if got := exposure(c.mode, c.owner, c.us); got != c.want {
			t.Errorf("mode %04o of user %d, read by %d: %04o is exposed, want %04o", c.mode, c.owner, c.us, got, c.want)
		}
	}
}
