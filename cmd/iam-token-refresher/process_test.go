package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// process is a daemon that runs beside a script.
type process struct {
	cmd   *exec.Cmd
	log   *lineLog
	ended chan struct{}
	err   error // of Wait, once it ended
}

func start(cmd *exec.Cmd) (*process, error) { return startOn(cmd, nil) }

// startOn starts it on a terminal, where there is one: the log stays empty then.
func startOn(cmd *exec.Cmd, terminal *os.File) (*process, error) {
	p := &process{cmd: cmd, log: newLineLog(), ended: make(chan struct{})}
	if cmd.Stdout, cmd.Stderr = p.log, p.log; terminal != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
		p.log.end()
	}()
	return p, nil
}

// wait waits for the end and returns the exit code; -1 for a signal.
func (p *process) wait() (int, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		return 0, errors.New("it has not ended; its log so far:\n" + p.log.text())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return 0, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// lineLog keeps what is written to it, and lets others wait for it.
type lineLog struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	more  chan struct{} // closed and replaced at each write
	ended bool
}

func newLineLog() *lineLog { return &lineLog{more: make(chan struct{})} }

func (l *lineLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	close(l.more)
	l.more = make(chan struct{})
	return len(b), nil
}

func (l *lineLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.more)
	l.more = make(chan struct{})
}

func (l *lineLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// await waits until n lines match.
func (l *lineLog) await(pattern string, n int) error { return l.awaitFor(patience, pattern, n) }

func (l *lineLog) awaitFor(patience time.Duration, pattern string, n int) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		l.mu.Lock()
		text, more, ended := l.buf.String(), l.more, l.ended
		l.mu.Unlock()
		found := 0
		for line := range strings.Lines(text) {
			if strings.HasSuffix(line, "\n") && re.MatchString(line) {
				found++
			}
		}
		switch {
		case found >= n:
			return nil
		case ended:
			return fmt.Errorf("it ended with %d lines like %q, not %d", found, pattern, n)
		}
		select {
		case <-more:
		case <-timer.C:
			return fmt.Errorf("there are %d lines like %q, not %d", found, pattern, n)
		}
	}
}
