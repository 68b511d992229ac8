package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// answers is standard output. It remembers that something could not be written,
// so that no command has to: an answer that did not get out is a failure.
type answers struct {
	file *os.File

	mu       sync.Mutex
	lost     error // what was wrong first
	deserted bool  // it may be that nobody reads any more
}

// Write implements [io.Writer].
func (o *answers) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost == nil && !(o.deserted && errors.Is(err, syscall.EPIPE)) {
		o.lost = err
	}
	return n, err
}

// WriteString implements [io.StringWriter].
func (o *answers) WriteString(s string) (int, error) {
	return io.WriteString(struct{ io.Writer }{o}, s)
}

// mayBeDeserted says that it is a usual end when nobody reads any more.
func (o *answers) mayBeDeserted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deserted = true
}

// outcome is how a command has ended that returned err.
func (o *answers) outcome(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost != nil && (err == nil || errors.Is(err, errSaid)) {
		return fmt.Errorf("the answer did not get out whole: %w", o.lost)
	}
	return err
}
