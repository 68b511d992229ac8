package watch

import (
	"errors"
	"hash/maphash"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxHashed is how large a file may be to be compared by content. Keys, configs
// and tokens are far below; anything else is compared by what stat(2) tells.
const maxHashed = 1 << 20

// seed makes hashes that nobody can prepare a collision for.
var seed = maphash.MakeSeed()

// kind is what reading a path comes to.
type kind uint8

const (
	missing kind = iota
	empty
	content    // a regular file, compared by content, or with Events by stat(2)
	large      // a regular file, compared by stat(2)
	unreadable // there, but reading it fails
	special    // a directory, a FIFO, a device: never opened
)

// identity is what a path means. Two identities that are equal mean that a
// reader would find the same.
type identity struct {
	kind kind
	sum  uint64 // over whatever tells two of a kind apart
}

// passing tells whether a file is often so only for a moment, in the middle of
// being replaced.
func (i identity) passing() bool { return i.kind == missing || i.kind == empty }

// facts is what sums are made of; fields that must not matter stay zero.
type facts struct {
	hash               uint64
	errno              syscall.Errno
	id                 fileID
	size, mtime, ctime int64
	attrs              attrs
}

type attrs struct {
	mode, uid, gid uint32
	link           bool
}

// identify says what the path of r means now.
func identify(r route, flags Flag) identity {
	if r.err != nil {
		return failed(r.err, facts{})
	}
	st := &r.stat
	var k kind
	var f facts
	stat := facts{id: idOf(st), size: st.Size, mtime: st.Mtim.Nano()}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		k, f.id = special, idOf(st)
	case flags&Events != 0:
		// Who hears of everything reads it, and knows what should be there.
		if k, f = content, stat; st.Size == 0 {
			k = empty
		}
		f.ctime = st.Ctim.Nano()
	case st.Size > maxHashed:
		k, f = large, stat
	default:
		var n int64
		var err error
		if n, f.hash, err = hash(r.target, st.Size); err != nil {
			return failed(err, stat)
		}
		switch {
		case n == 0:
			k = empty
		case n > maxHashed:
			k, f = large, stat
		default:
			k = content
		}
	}
	if flags&Attrs != 0 {
		f.attrs = attrs{uint32(st.Mode), st.Uid, st.Gid, r.link}
	}
	return identity{k, maphash.Comparable(seed, f)}
}

// failed is the identity of what cannot be read. A reader that was told why
// wants to hear when the reason changes.
func failed(err error, f facts) identity {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return identity{kind: missing}
	}
	errors.As(err, &f.errno)
	return identity{unreadable, maphash.Comparable(seed, f)}
}

// hash reads a file up to a little over maxHashed. size is what it was a moment
// ago; another one costs a read more.
func hash(path string, size int64) (n int64, sum uint64, err error) {
	// Whoever swaps the file for a FIFO just now must not make this wait. A bare
	// descriptor, because an os.File would be offered to the poller.
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := again(func() (int, error) { return unix.Open(path, flags, 0) })
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	var h maphash.Hash
	h.SetSeed(seed)
	var buf [4096]byte // secrets pass through: no copy stays on the heap
	defer clear(buf[:])
	for n <= maxHashed {
		m, err := again(func() (int, error) { return unix.Read(fd, buf[:]) })
		if err != nil {
			return 0, 0, err
		}
		_, _ = h.Write(buf[:m])
		n += int64(m)
		if m == 0 || m < len(buf) && n == size {
			break
		}
	}
	return n, h.Sum64(), nil
}
