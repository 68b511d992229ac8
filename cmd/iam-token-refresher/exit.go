package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/redact"
	"iam-token-refresher/sink"
)

const program = "iam-token-refresher"

// The exit codes. 2 is what a crash of Go gives, so that a service manager can
// tell what is worth a restart.
const (
	exitDone   = 0
	exitFailed = 1
	exitConfig = 78 // usage or configuration: trying again will not help
)

// usageError is a mistake on the command line or in the environment.
type usageError struct {
	command string // whose --help says more
	err     error
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
}

// errSaid is a failure that the command has told about on its own.
var errSaid = errors.New("failed")

func exitCode(err error) int {
	var mistake *usageError
	var mistakes config.Errors
	var program *sink.ExitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &program):
		return program.Code
	case errors.As(err, &mistake), errors.As(err, &mistakes):
		return exitConfig
	}
	return exitFailed
}

// complain writes what a person needs to know of err, once.
func complain(w io.Writer, err error) {
	if err == nil || errors.Is(err, errSaid) || errors.As(err, new(*sink.ExitError)) {
		return
	}
	say(w, err.Error())
	var mistake *usageError
	if errors.As(err, &mistake) {
		_, _ = fmt.Fprintf(w, "try: %s --help\n", mistake.command)
	}
}

// say writes a message in the program's name. What looks like a secret is
// taken out, wherever it came from.
func say(w io.Writer, message string) {
	var filter redact.Filter
	_, _ = fmt.Fprintf(w, "%s: %s\n", program, filter.String(message))
}
