package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const stopTimeout = 3 * time.Second

// child is a process of ours, in a process group of its own.
type child struct {
	name  string
	pid   int
	grace time.Duration // from the request to end to the order
	done  chan struct{} // closed when the process and all that it wrote are over
	err   error         // how it ended; to be read after done
	tail  *tail
}

// startChild starts a program. onLine gets each line of its standard output
// and error, from one goroutine per stream.
func startChild(name string, onLine func(string), program string, args ...string) (*child, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	c := &child{name: name, grace: stopTimeout, done: make(chan struct{}), tail: &tail{}}
	cmd := exec.Command(program, args...)
	cmd.Env = cleanEnvironment(os.Environ())
	cmd.SysProcAttr = processAttributes()
	cmd.WaitDelay = stopTimeout
	cmd.Stdout = &lineWriter{line: onLine}
	cmd.Stderr = &lineWriter{line: func(s string) {
		c.tail.add(s)
		onLine(s)
	}}
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread ends that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		c.pid = cmd.Process.Pid
		started <- nil
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w (\"make build\" makes it)", name, err)
	}
	return c, nil
}

// stop ends the process and whatever of what it started holds its output, and
// waits for the end. Once they are over the number of their group may be somebody
// else's.
func (c *child) stop() {
	if c == nil {
		return
	}
	c.signal(syscall.SIGTERM)
	timer := time.NewTimer(c.grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.signal(syscall.SIGKILL)
	}
	<-c.done
}

func (c *child) signal(s syscall.Signal) {
	select {
	case <-c.done:
	default:
		_ = syscall.Kill(-c.pid, s)
	}
}

// ended says that the process ended on its own, which it should not.
func (c *child) ended() error {
	if c.err == nil {
		return fmt.Errorf("%s ended although nobody told it to", c.name)
	}
	return fmt.Errorf("%s ended: %w", c.name, c.err)
}

// cleanEnvironment leaves out what would change what the programs do.
func cleanEnvironment(env []string) []string {
	var kept []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "ITR_") && !strings.HasPrefix(name, "LISTEN_") && name != "NOTIFY_SOCKET" {
			kept = append(kept, v)
		}
	}
	return kept
}

// lineWriter hands on whole lines.
type lineWriter struct {
	line func(string)
	rest []byte
}

const maxLine = 64 << 10

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 && len(w.rest) > maxLine {
			i = maxLine
		}
		if i < 0 {
			return len(b), nil
		}
		w.line(string(bytes.TrimRight(w.rest[:i], "\r\n")))
		w.rest = w.rest[min(i+1, len(w.rest)):]
	}
}

// tail keeps the last lines.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 12

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}
