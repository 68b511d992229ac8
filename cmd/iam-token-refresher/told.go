package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// timeToEnd is how long a command may take that was told to end.
const timeToEnd = 1500 * time.Millisecond

var (
	// errAtOnce is the end that does not wait.
	errAtOnce = errors.New("ended at once by a second signal: readers may have been cut off")
	// errHung is that of a command that cannot be told.
	errHung = errors.New("ended while something hung, as told by a signal: nobody reads what it writes, or a file system does not answer")
)

// onTerminal are the signals that end a program, too, which has changed a terminal:
// it is to put that back.
var onTerminal = []os.Signal{syscall.SIGQUIT, syscall.SIGHUP}

// untilTold is ctx until SIGTERM, SIGINT or one of more tells the program to end.
// What hangs in the kernel then, in a write to a full pipe or a stopped terminal
// or in a read from a dead file server, is not told: the program ends without it.
// Where settle is not nil, it is called before, for what must not be cut off.
func (a *app) untilTold(ctx context.Context, settle func(), more ...os.Signal) (_ context.Context, stop func()) {
	more = slices.DeleteFunc(slices.Clone(more), signal.Ignored) // as under nohup
	ctx, forget := signal.NotifyContext(ctx, append(more, syscall.SIGTERM, syscall.SIGINT)...)
	unhurried := context.AfterFunc(ctx, func() { a.endSoon(settle) })
	return ctx, func() {
		unhurried()
		forget()
	}
}

// endSoon has the program end in a moment, whatever it waits for then, and be it
// for who reads what it says of its end.
func (a *app) endSoon(settle func()) {
	time.AfterFunc(timeToEnd, func() {
		if settle != nil {
			settle()
		}
		select {
		case a.overdue <- struct{}{}:
		default: // it is known
		}
	})
}
