package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"iam-token-refresher/refresher/status"
)

// watchEvery is how often the daemon is asked.
const watchEvery = time.Second

// What a terminal understands. A frame is drawn over the last one and shown
// when it is whole, so that nothing flickers.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	beginFrame  = "\x1b[?2026h\x1b[H"
	endLine     = "\x1b[K\r\n"
	endFrame    = "\x1b[K\x1b[J\x1b[?2026l"
)

// watch shows the status until it is interrupted or nobody reads any more: on a
// terminal that can do so in place, elsewhere a new table whenever something changed but the
// time.
func (a *app) watch(ctx context.Context, s *survey, asJSON bool) error {
	view := a.newView(asJSON)
	var more []os.Signal
	if view.inPlace {
		more = onTerminal
	}
	ctx, stop := a.untilTold(ctx, nil, more...)
	defer stop()
	ctx, stopLooking, err := untilUnread(ctx, a.stdout)
	if err != nil {
		return err
	}
	defer stopLooking()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	defer view.close()
	defer view.yieldOnStop()()
	for first := true; ; first = false {
		doc, missing, err := s.take(ctx)
		if err != nil || len(missing.broken) > 0 {
			s = s.renewed()
		}
		notes := missing.words()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil: // the daemon is being restarted, perhaps
			notes = []string{err.Error()}
		}
		switch err := view.draw(doc, notes, err == nil); {
		case errors.Is(err, syscall.EPIPE):
			return nil
		case err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// view is where the watched status goes.
type view struct {
	*app
	asJSON           bool
	mu               sync.Mutex // held while the terminal is written to
	inPlace, entered bool
	last             string // what was drawn last, without what time alone changes
	final            []byte // what stays on the terminal at the end
}

func (a *app) newView(asJSON bool) *view {
	return &view{app: a, asJSON: asJSON, inPlace: !asJSON && a.env("TERM") != "dumb" && a.screenOf(a.stdout.file).terminal}
}

func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave()
}

// leave gives the terminal back; the next frame takes it again.
func (v *view) leave() {
	if v.entered {
		v.entered = false
		_, _ = io.WriteString(v.stdout, leaveScreen+string(v.final))
	}
}

// yieldOnStop gives the terminal back while Ctrl-Z has stopped the program, as the
// shell is there then. Until stop.
func (v *view) yieldOnStop() (stop func()) {
	if !v.inPlace || signal.Ignored(syscall.SIGTSTP) {
		return func() {}
	}
	stops, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(stops, syscall.SIGTSTP)
	var yielding sync.WaitGroup
	yielding.Go(func() {
		for {
			select {
			case <-stops:
				v.suspend()
				signal.Notify(stops, syscall.SIGTSTP)
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		yielding.Wait()
		signal.Stop(stops)
	}
}

// suspend stops the program as if it had not listened, and returns when it goes
// on.
func (v *view) suspend() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave()
	signal.Reset(syscall.SIGTSTP)
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGTSTP)
}

// draw shows a document; without one (ok false) only the notes.
func (v *view) draw(doc status.Document, notes []string, ok bool) error {
	if v.inPlace {
		return v.redraw(doc, notes, ok)
	}
	now := changeable(doc, notes)
	if now == v.last {
		return nil
	}
	if v.last != "" && !v.asJSON {
		_, _ = fmt.Fprintln(v.stdout)
	}
	v.last = now
	for _, note := range notes {
		say(v.stderr, note)
	}
	if !ok {
		return nil
	}
	return v.show(v.stdout, doc, v.asJSON, screen{})
}

// changeable is what a new table in a pipe is worth: the table as if it were
// always the same time.
func changeable(doc status.Document, notes []string) string {
	still := time.Unix(0, 0)
	at := func(t *time.Time, fixed time.Time) *time.Time {
		if t == nil {
			return nil
		}
		return &fixed
	}
	tokens := slices.Clone(doc.Tokens)
	for i := range tokens {
		t := &tokens[i]
		t.ExpiresAt = at(t.ExpiresAt, still.Add(time.Hour)) // the state says when it has come
		t.NextRefresh = at(t.NextRefresh, still.Add(time.Minute))
		t.DoubtSince, t.FailingSince = at(t.DoubtSince, still), at(t.FailingSince, still)
		t.Failures = min(t.Failures, 1)
	}
	var b strings.Builder
	_ = status.Table(&b, status.Document{Tokens: tokens}, still, status.TableOptions{Width: pipeWidth})
	return b.String() + strings.Join(notes, "\n")
}

// redraw draws a frame over the last one.
func (v *view) redraw(doc status.Document, notes []string, ok bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.screenOf(v.stdout.file) // it may have been resized
	var frame bytes.Buffer
	if ok {
		if err := v.show(&frame, doc, v.asJSON, s); err != nil {
			return err
		}
	}
	for _, note := range notes {
		say(&frame, note)
	}
	v.final = bytes.Clone(frame.Bytes())
	_, _ = fmt.Fprintf(&frame, "\n%s", s.paint(time.Now().Format(time.TimeOnly)+", every second; Ctrl-C ends this", dim))
	lines := strings.Split(frame.String(), "\n")
	if s.height > 0 && len(lines) > s.height {
		lines = append(lines[:s.height-1], s.paint("… the window is too small for the rest", dim))
	}
	out := beginFrame + strings.Join(lines, endLine) + endFrame
	if !v.entered {
		v.entered = true
		out = enterScreen + out
	}
	_, err := io.WriteString(v.stdout, out)
	return err
}
