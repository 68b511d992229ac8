package sink

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"iam-token-refresher/refresher/process"
)

// child is the program while it runs.
type child struct {
	cmd   *exec.Cmd
	group bool // it has a process group of its own
	ended chan ending

	mu   sync.Mutex
	gone bool // its PID may be somebody else's from now on
}

// ending is how a program ended.
type ending struct {
	code int    // as a shell has it
	what string // for people
}

// The exit codes of a shell for a program that cannot be started.
const (
	codeNotFound      = 127
	codeNotExecutable = 126
	codeSignal        = 128 // and the signal's number
)

// startChild starts the program, in a process group of its own or in ours, and
// returns when it runs, or has failed to.
func startChild(o ExecOptions, processes *process.Owner, env []string, group bool) (*child, error) {
	c := &child{cmd: exec.Command(o.Command[0], o.Command[1:]...), group: group, ended: make(chan ending, 1)}
	c.cmd.Env = env
	// Files go as they are, without a goroutine of ours that copies. (A nil file
	// in an interface would not be nil.)
	if o.Stdin != nil {
		c.cmd.Stdin = o.Stdin
	}
	if o.Stdout != nil {
		c.cmd.Stdout = o.Stdout
	}
	if o.Stderr != nil {
		c.cmd.Stderr = o.Stderr
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: group}
	started := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		err := processes.Run(c.cmd, process.Phases{Started: func() { close(started) }, Ended: c.leave})
		if c.cmd.ProcessState == nil {
			failed <- err
			return
		}
		c.ended <- endingOf(c.cmd.ProcessState)
	}()
	select {
	case <-started:
		return c, nil
	case err := <-failed:
		return nil, err
	}
}

// leave is called after the program's end and before its PID is reaped.
func (c *child) leave(bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if c.group {
		_ = process.KillGroup(c.cmd)
	}
}

// signal sends to the program, or to its group where that is its own.
func (c *child) signal(s syscall.Signal, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	pid := c.cmd.Process.Pid
	if all && c.group {
		pid = -pid
	}
	_ = syscall.Kill(pid, s) // it may have changed to a user that we may not signal
}

func endingOf(p *os.ProcessState) ending {
	status, ok := p.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		return ending{codeSignal + int(status.Signal()), fmt.Sprintf("signal %d (%s)", int(status.Signal()), status.Signal())}
	case p.Success():
		return ending{0, "exit code 0"}
	}
	return ending{p.ExitCode(), fmt.Sprintf("exit code %d", p.ExitCode())}
}

// notStarted is the ending of a program that did not begin.
func notStarted(err error) ending {
	code := codeNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		code = codeNotFound
	}
	return ending{code, process.ExplainStart(err).Error()}
}
