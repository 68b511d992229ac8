package iam

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"iam-token-refresher/refresher/process"
)

const (
	maxStdout = 64 << 10
	maxStderr = 4 << 10 // of its end
	// pipeDelay is how long a finished command's pipes may stay open: somebody
	// it left behind holds them.
	pipeDelay = time.Second
)

type result struct{ stdout, stderr []byte }

// runError is why a command gave nothing. It does not quote the command.
type runError struct {
	problem, remedy string
	exited          bool // it ran, and failed by itself
}

func (e *runError) Error() string { return e.problem }

var (
	errTimeout  = errors.New("timeout")
	errTooLarge = errors.New("too much output")
)

// run runs a command in a process group of its own, without a shell, and returns
// its output. When the time is up, ctx ends or the output is too large, the
// whole group is killed. A command that succeeds and lets go of its output may
// leave a child in the background.
func run(ctx context.Context, processes *process.Owner, argv []string, timeout time.Duration) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer stop()

	stdout := &head{limit: maxStdout, full: func() { cancel(errTooLarge) }}
	stderr := &tail{limit: maxStderr}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = process.Environment(os.Environ())
	process.InGroup(cmd)
	var pipes pipes
	defer pipes.close()
	var err error
	if cmd.Stdout, err = pipes.to(stdout); err != nil {
		return result{}, err
	}
	if cmd.Stderr, err = pipes.to(stderr); err != nil {
		return result{}, err
	}
	done := false
	err = processes.Run(cmd, process.Phases{Started: pipes.started, Ended: func(ok bool) {
		done = ok
		// Children that a failed command leaves behind, or that hold the output
		// of one that is done, would be more at every mint. The group's ID
		// may be another's once the command was waited for: WaitDelay is later.
		if held := pipes.held(pipeDelay); held || !ok {
			_ = process.KillGroup(cmd)
		}
	}})
	pipes.close()
	if done {
		err = nil // the time was up for who held its output
	}
	output := result{stdout: stdout.data, stderr: stderr.data}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		switch {
		case errors.Is(cause, errTimeout):
			return output, &runError{problem: fmt.Sprintf("it did not end within %s and was killed", timeout.Round(time.Millisecond)), remedy: "run it by hand as the same user: it may wait for a login"}
		case errors.Is(cause, errTooLarge):
			return output, &runError{problem: fmt.Sprintf("it printed more than %d bytes and was killed", maxStdout), remedy: "it must print a token and nothing else"}
		}
		return output, &runError{problem: "it was killed"}
	}
	return output, explainExit(err)
}

func explainExit(err error) error {
	var exit *exec.ExitError
	var start *process.StartError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.Exited():
		return &runError{problem: process.DescribeEnd(exit.ProcessState), remedy: "run it by hand as the same user", exited: true}
	case errors.As(err, &exit):
		// Signal 9 is also what ends a program for which there is no memory left.
		return &runError{problem: process.DescribeEnd(exit.ProcessState), remedy: "somebody killed it, or memory ran out: see the kernel's log, and run it by hand as the same user"}
	case errors.As(process.ExplainStart(err), &start):
		return &runError{problem: start.Problem, remedy: start.Remedy}
	}
	return err
}

// pipes pass on what a command prints.
type pipes struct {
	theirs, ours []*os.File
	copying      sync.WaitGroup
}

// to makes the end of a pipe for the command. What comes out of it goes to w.
func (p *pipes) to(w io.Writer) (*os.File, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, &runError{problem: "it cannot be started: " + err.Error()}
	}
	p.ours, p.theirs = append(p.ours, from), append(p.theirs, to)
	p.copying.Go(func() { _, _ = io.Copy(w, from) })
	return to, nil
}

// started leaves the command's ends to it.
func (p *pipes) started() {
	for _, f := range p.theirs {
		f.Close()
	}
}

// held tells whether somebody has the command's ends open for longer than that.
func (p *pipes) held(patience time.Duration) bool {
	done := make(chan struct{})
	go func() { p.copying.Wait(); close(done) }()
	select {
	case <-done:
		return false
	case <-time.After(patience):
		return true
	}
}

// close ends the copying. It may be called again.
func (p *pipes) close() {
	p.started()
	for _, f := range p.ours {
		f.Close()
	}
	p.copying.Wait()
}

// head keeps the beginning of a stream and calls full when there is more.
type head struct {
	data  []byte
	limit int
	full  func()
}

func (h *head) Write(p []byte) (int, error) {
	room := min(len(p), h.limit-len(h.data))
	h.data = append(h.data, p[:room]...)
	if room < len(p) {
		h.full()
	}
	return len(p), nil
}

// tail keeps the end of a stream.
type tail struct {
	data  []byte
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if extra := len(t.data) - t.limit; extra > 0 {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}
