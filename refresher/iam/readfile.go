package iam

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/textfile"
)

// maxFile bounds the files with keys and tokens, in bytes.
const maxFile = 64 << 10

// readFile reads a small regular file of text, links followed. It does not block on a
// pipe. The error names the file and what to do.
func readFile(kind, path string) ([]byte, fs.FileInfo, error) {
	f, info, err := textfile.Open(path, 0)
	if err != nil {
		return nil, nil, fileError(kind, path, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, nil, fileError(kind, path, err)
	case len(content) == 0:
		return nil, nil, fmt.Errorf("%s %s is empty", kind, path)
	case len(content) > maxFile:
		return nil, nil, fmt.Errorf("%s %s has more than %d bytes: is it the right file?", kind, path, maxFile)
	}
	if content, err = textfile.Clean(content); err != nil {
		return nil, nil, fmt.Errorf("%s %s %w", kind, path, err)
	}
	return content, info, nil
}

func fileError(kind, path string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err // the path is in our sentence already
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s does not exist: check the path", kind, path)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s %s is a directory: give the path of the file in it", kind, path)
	case errors.Is(err, textfile.ErrNotRegular):
		return fmt.Errorf("%s %s is %w", kind, path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s is not readable for uid %d: change its owner, group or mode, or those of its directories", kind, path, os.Getuid())
	}
	return fmt.Errorf("read %s %s: %w", kind, path, err)
}

// warnIfExposed logs when others than its owner may read a file with a secret.
func (c *Cloud) warnIfExposed(kind, path string, info fs.FileInfo) {
	exposed := exposure(info.Mode().Perm(), owner(info), os.Geteuid())
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		// systemd grants access by an ACL, whose mask shows as the group's bits.
		exposed &^= 0o040
	}
	if exposed == 0 {
		return
	}
	who := "its group"
	if exposed&0o004 != 0 {
		who = "everybody"
	}
	c.log.Warn("a secret file is readable by "+who+": chmod 600 it", "kind", kind, "file", path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
}

// exposure is the bits of a mode that let others than those who need it read a
// file. Who reads a file of root's does it by its group or as anybody: so it is
// with a Secret of Kubernetes, which is 0440 and of the pod's fsGroup at best.
func exposure(mode fs.FileMode, owner, us int) fs.FileMode {
	if us != 0 && owner == 0 {
		return mode & 0o004
	}
	return mode & 0o044
}

func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// missing is the mistake of an option that must be given.
func missing(field, example string) error {
	return &refresher.Invalid{Field: field, Problem: "is missing; for example " + example}
}
