package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// bare takes off the path of a temporary file that nobody wants to read.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}

// advise adds to an error in a directory what a person can do about it.
func advise(err error, dir string) error {
	err = bare(err)
	var what string
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		what = "make room on the file system of " + dir
	case errors.Is(err, syscall.EROFS):
		what = "choose a directory that is not read-only (under systemd add it to ReadWritePaths=)"
	case errors.Is(err, fs.ErrNotExist):
		what = "create the directory " + dir
	case errors.Is(err, syscall.ENOTDIR):
		what = dir + " must be a directory"
	case errors.Is(err, fs.ErrPermission):
		what = fmt.Sprintf("let uid %d read and write the directory %s", os.Geteuid(), dir)
	case errors.Is(err, syscall.ENAMETOOLONG):
		what = "choose a shorter name"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, what)
}

func adviseFile(err error) error {
	err = bare(err)
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: choose a place that is not read-only", err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: a part of the path is a file and not a directory", err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: choose a shorter name", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: let uid %d read and write it and pass the directories above it", err, os.Geteuid())
	}
	return err
}
