package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watch prints each new version until it is interrupted or nobody reads any
// more. It outlives restarts of the daemon, and follows the token to another
// socket: what keeps it from getting values meanwhile is said on stderr, once.
func (g *getter) watch(ctx context.Context, name string, out printer) error {
	if g.socketFor(name) == "" {
		return g.noSocket()
	}
	ctx, stop := g.untilTold(ctx, nil)
	defer stop()
	ctx, stopLooking, err := untilUnread(ctx, g.stdout)
	if err != nil {
		return err
	}
	defer stopLooking()
	v, c, err := g.first(ctx, name)
	if err == nil {
		err = g.follow(ctx, c, name, v, out)
	}
	if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// follow prints v and what comes after it. It returns when that cannot go on.
func (g *getter) follow(ctx context.Context, c *client, name string, v value, out printer) error {
	pause, printed, said := firstRetry, "", ""
	for {
		text, err := out.text(v, time.Now())
		if err == nil && text != printed {
			_, err = g.stdout.WriteString(text)
		}
		if err != nil {
			return err
		}
		printed = text
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, longestWait+askTimeout)
		next, err := c.value(limited, name, v.etag, longestWait)
		cancel()
		if err == nil {
			v, pause, said = next, firstRetry, ""
			continue
		}
		moved := false
		if c, moved = g.moved(c, name, err); moved {
			continue
		}
		switch {
		case errors.Is(err, errSame):
			said = ""
		case ctx.Err() != nil || !passing(err):
			return err
		case err.Error() != said:
			said = err.Error()
			say(g.stderr, said)
		}
		// Who answers at once with nothing new is not asked at once again.
		if time.Since(began) > longestWait/2 {
			pause = firstRetry
		} else if !sleep(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, lastRetry)
	}
}

// passing tells whether an error may pass by itself: the daemon is away, or has
// no value to give.
func passing(err error) bool {
	return errors.Is(err, errAbsent) || errors.Is(err, errNoValue) || errors.Is(err, errUnanswered)
}

// untilUnread is ctx until nobody can read any more what is written to o, a
// pipe perhaps: it may be hours until the next write finds out. Until stop,
// such a write is an error and does not end the program, and it is a usual end.
func untilUnread(ctx context.Context, o *answers) (_ context.Context, stop func(), err error) {
	wake, waker, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	signal.Ignore(syscall.SIGPIPE)
	o.mayBeDeserted()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		// No events are asked for: errors and hang-ups are always told.
		fds := []unix.PollFd{{Fd: int32(o.file.Fd())}, {Fd: int32(wake.Fd())}}
		for {
			if _, err := unix.Poll(fds, -1); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return ctx, func() {
		_ = waker.Close()
		<-done
		_ = wake.Close()
		signal.Reset(syscall.SIGPIPE)
	}, nil
}
