package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// StartError is why a program cannot be started. It does not quote the command.
type StartError struct {
	Problem string
	Remedy  string // empty where none is known
}

func (e *StartError) Error() string {
	if e.Remedy == "" {
		return e.Problem
	}
	return e.Problem + ": " + e.Remedy
}

// ExplainStart makes a [*StartError] of an error of [exec.LookPath], or of
// [Owner.Run] before the program ran; nil of nil.
func ExplainStart(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &StartError{"there is no such program", "give its full path, or install it; PATH is the daemon's"}
	case errors.Is(err, fs.ErrPermission):
		return &StartError{"permission denied: this user may not execute it", "check its mode and that of its directories"}
	case errors.Is(err, exec.ErrDot):
		return &StartError{"it was found in the current directory only", "give its full path"}
	case errors.As(err, &errno):
		return &StartError{Problem: "it cannot be started: " + errno.Error()}
	}
	return &StartError{Problem: "it cannot be started"}
}

// DescribeEnd says how a program ended that has failed.
func DescribeEnd(p *os.ProcessState) string {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("it was ended by signal %d (%s)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("it failed with exit code %d", p.ExitCode())
}
