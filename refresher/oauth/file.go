package oauth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"iam-token-refresher/refresher/atomicfile"
	"iam-token-refresher/refresher/textfile"
)

// maxFile bounds the files with logins and secrets, in bytes.
const maxFile = 64 << 10

// openRegular opens a file to read. The error names the file and what to do.
func openRegular(kind, path string, flags int) (*os.File, fs.FileInfo, error) {
	f, info, err := textfile.Open(path, flags)
	if err != nil {
		return nil, nil, fileError(kind, path, err)
	}
	return f, info, nil
}

func readAll(kind, path string, f *os.File) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fileError(kind, path, err)
	case len(content) > maxFile:
		return nil, fmt.Errorf("%s %s has more than %d bytes: is it the right file?", kind, path, maxFile)
	}
	if content, err = textfile.Clean(content); err != nil {
		return nil, fmt.Errorf("%s %s %w", kind, path, err)
	}
	return content, nil
}

func fileError(kind, path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err // the path is in our sentence already
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s does not exist%w", kind, path, missing{err})
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s is not readable for uid %d: change its owner, or the mode of its directories", kind, path, os.Geteuid())
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s %s is a directory: name a file in it", kind, path)
	case errors.Is(err, textfile.ErrNotRegular):
		return fmt.Errorf("%s %s is %w", kind, path, err)
	case errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%s %s is a symbolic link: name the file that it points to", kind, path)
	}
	return fmt.Errorf("read %s %s: %w", kind, path, err)
}

// missing is a cause without words: each caller says what to do in its own.
type missing struct{ error }

func (missing) Error() string   { return "" }
func (m missing) Unwrap() error { return m.error }

const loginKind = "login file"

// readLogin reads a login that nobody else can have read or written. Whoever is
// root may read anybody's.
func readLogin(path string) (Login, error) {
	f, st, err := openRegular(loginKind, path, syscall.O_NOFOLLOW)
	if err != nil {
		return Login{}, err
	}
	defer f.Close()
	if uid, _ := owner(st); uid != os.Geteuid() && os.Geteuid() != 0 {
		return Login{}, fmt.Errorf("%s %s belongs to uid %d, and we run as uid %d: chown it to %[4]d", loginKind, path, uid, os.Geteuid())
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return Login{}, fmt.Errorf("%s %s can be read or written by others (mode %04o): chmod 600 it, and log in again if somebody may have read it", loginKind, path, mode)
	}
	content, err := readAll(loginKind, path, f)
	if err != nil {
		return Login{}, err
	}
	l, err := decodeLogin(content)
	if err != nil {
		return Login{}, fmt.Errorf("%s %s %w", loginKind, path, err)
	}
	return l, nil
}

// writeOptions keep the owner of the file: root may log in, or check, for a
// daemon that is somebody else. A new file in somebody's own directory is that
// somebody's. Neither must have got there by being first: see [entrusted].
func writeOptions(path string) (atomicfile.Options, error) {
	opt := atomicfile.Options{Mode: 0o600, UID: -1, GID: -1}
	if os.Geteuid() != 0 {
		return opt, nil
	}
	from := path
	st, err := os.Lstat(path)
	if err != nil {
		from = filepath.Dir(path)
		if st, err = os.Stat(from); err != nil || openToOthers(st) {
			return opt, nil
		}
	}
	if err := entrusted(from); err != nil {
		return opt, err
	}
	if uid, gid := owner(st); uid >= 0 {
		opt.UID, opt.GID = uid, gid
	}
	return opt, nil
}

// openToOthers tells whether others than its owner may put files into dir.
func openToOthers(dir fs.FileInfo) bool { return dir.Mode()&0o022 != 0 }

// entrusted refuses to give what is stored to the owner of what is at path,
// unless none but root and that owner can have put it there, nor the
// directories above it: else whoever came first to a place like /tmp would be
// given the login.
func entrusted(path string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return err
	}
	for at := filepath.Join(dir, filepath.Base(path)); at != dir; at, dir = dir, filepath.Dir(dir) {
		st, err := os.Lstat(at)
		if err != nil {
			return err
		}
		in, err := os.Stat(dir)
		if err != nil {
			return err
		}
		maker, _ := owner(st)
		lord, _ := owner(in)
		if maker > 0 && (openToOthers(in) || lord != 0 && lord != maker) {
			return fmt.Errorf("%s belongs to uid %d, who would be given what is stored, and others than root and that user may write %s (mode %04o): remove %[1]s, or choose a directory that only root or the daemon's user may write", at, maker, dir, in.Mode().Perm())
		}
	}
	return nil
}

// owner returns -1, -1 where the system does not say.
func owner(st fs.FileInfo) (uid, gid int) {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return -1, -1
}

func writeLogin(path string, l Login) error {
	data, err := l.encode()
	if err != nil {
		return err
	}
	return write(path, data)
}

func write(path string, data []byte) error {
	opt, err := writeOptions(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return atomicfile.Write(path, data, opt)
}

// checkWrite tells whether write would work.
func checkWrite(path string) error {
	opt, err := writeOptions(path)
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return atomicfile.Check(path, opt)
}
