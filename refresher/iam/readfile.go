package iam

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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

// missing is the mistake of an option that must be given.
func missing(field, example string) error {
	return &refresher.Invalid{Field: field, Problem: "is missing; for example " + example}
}
