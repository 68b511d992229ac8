package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// maxLine bounds what is read as an answer, in bytes.
const maxLine = 16 << 10

// readLine reads a line; EOF ends one, too. The read cannot be interrupted: when
// ctx ends first it is left behind, for the end of the process.
func readLine(ctx context.Context, f *os.File) (string, error) {
	return read(ctx, func() (string, error) {
		text, err := bufio.NewReader(io.LimitReader(f, maxLine)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return text, err
	})
}

// readHidden asks a terminal for what must not show on it. Echo is off before
// the question is there: people paste fast. The terminal is as before
// afterwards, also when ctx ends first.
func readHidden(ctx context.Context, terminal, show *os.File, question string) (string, error) {
	fd := int(terminal.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("ask the terminal: %w", err)
	}
	defer func() { _ = term.Restore(fd, before) }()
	return read(ctx, func() (string, error) {
		text, err := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{terminal, show}, "").ReadPassword(question)
		if errors.Is(err, io.EOF) { // Ctrl-C is no signal now
			err = context.Canceled
		}
		return text, err
	})
}

// read waits for a function that ctx does not end.
func read(ctx context.Context, do func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := do()
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
