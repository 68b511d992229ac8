package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"iam-token-refresher/refresher/process"
)

// Hook is what is done after a sink has taken a new version.
type Hook struct {
	Token, Sink string // the sink by its ID
	Path        string // of the file that the sink writes; empty where there is none
	Action      Action
	Timeout     time.Duration
}

// Action is what a hook does.
type Action interface {
	// Do does it, and ends soon after ctx does. A command gets env besides
	// what it inherits. The error is for people, and holds no output.
	Do(ctx context.Context, processes *process.Owner, env []string) error
	// Check tells whether Do could work, and does nothing.
	Check() error
}

// Command runs a program, without a shell.
type Command struct{ Argv []string }

// Check implements [Action].
func (c Command) Check() error {
	_, err := exec.LookPath(c.Argv[0])
	return process.ExplainStart(err)
}

// Do implements [Action]. What the program prints goes nowhere: it may be
// anything, the value included. Children that it leaves behind live on when it
// succeeds.
func (c Command) Do(ctx context.Context, processes *process.Owner, env []string) error {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(process.Environment(os.Environ()), env...)
	process.InGroup(cmd)
	err := processes.Run(cmd, process.Phases{Ended: func(ok bool) {
		if !ok {
			_ = process.KillGroup(cmd)
		}
	}})
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return errors.New("it took too long and was killed: give it more with `timeout`, or let it do its work in the background")
	case ctx.Err() != nil:
		return errors.New("it was killed: the daemon ends")
	case errors.As(err, &exit):
		return errors.New(process.DescribeEnd(exit.ProcessState) + ": run it by hand as the same user, what it prints is not kept")
	}
	return process.ExplainStart(err)
}

// Systemctl makes the action that restarts or reloads a unit. It does not wait
// for that: a unit that takes long would be restarted again and again, and how
// it went is the service manager's to tell.
func Systemctl(unit, action string) Action {
	verb := "try-restart"
	if action == "reload" {
		verb = "try-reload-or-restart"
	}
	return systemctl{Command{[]string{"systemctl", "--no-block", "--no-ask-password", verb, "--", unit}}, "systemctl " + verb + " " + unit}
}

type systemctl struct {
	Command
	line string // for people to try
}

// booted is there where systemd is init (sd_booted(3)).
const booted = "/run/systemd/system"

// Check implements [Action].
func (s systemctl) Check() error {
	if err := s.Command.Check(); err != nil {
		return fmt.Errorf("%s: %w", s.line, err)
	}
	if _, err := os.Stat(booted); err != nil {
		return &DoubtfulError{"systemd does not run here: there is no " + booted}
	}
	if os.Geteuid() != 0 {
		return &DoubtfulError{"we are not root: polkit must allow this user to manage the unit (org.freedesktop.systemd1.manage-units)"}
	}
	return nil
}

// Do implements [Action].
func (s systemctl) Do(ctx context.Context, processes *process.Owner, env []string) error {
	if err := s.Command.Do(ctx, processes, env); err != nil {
		return fmt.Errorf("%s: %w", s.line, err)
	}
	return nil
}

// DoubtfulError is what a check says that cannot tell.
type DoubtfulError struct{ Doubt string }

func (e *DoubtfulError) Error() string { return e.Doubt }

// Signal sends a signal to the process whose PID is in a file.
type Signal struct {
	PIDFile string
	Signal  syscall.Signal
}

// maxPIDFile is more than a number and what people put around it take.
const maxPIDFile = 64

// Check implements [Action].
func (s Signal) Check() error {
	pid, err := s.find()
	if errors.Is(err, fs.ErrNotExist) {
		return &DoubtfulError{fmt.Sprintf("%s is not there: fine if its program is not running now", s.PIDFile)}
	}
	if err != nil {
		return err
	}
	return s.send(pid, 0)
}

// Do implements [Action].
func (s Signal) Do(context.Context, *process.Owner, []string) error {
	pid, err := s.find()
	if err != nil {
		return err
	}
	return s.send(pid, s.Signal)
}

func (s Signal) send(pid int, signal syscall.Signal) error {
	switch err := syscall.Kill(pid, signal); {
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("process %d of %s belongs to another user, whom we may not signal: run as that user, or use command or systemd_unit (in the sandbox of the systemd unit not even root may)", pid, s.PIDFile)
	case errors.Is(err, syscall.ESRCH):
		return fmt.Errorf("there is no process %d, which %s names: is its program running?", pid, s.PIDFile)
	case err != nil:
		return fmt.Errorf("signal process %d of %s: %w", pid, s.PIDFile, err)
	}
	return nil
}

// find reads the number.
func (s Signal) find() (int, error) {
	f, err := os.OpenFile(s.PIDFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("read the PID: %w", err)
	}
	defer f.Close()
	text := make([]byte, maxPIDFile)
	n, err := f.Read(text)
	info, statErr := f.Stat()
	if err := errors.Join(err, statErr); err != nil {
		return 0, fmt.Errorf("read the PID: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid < 2 || n == maxPIDFile || !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s does not hold a PID", s.PIDFile)
	}
	return pid, nil
}
