package sink

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ExitError is how the program ended for good.
type ExitError struct {
	Code  int  // as a shell has it: 128 and the number of a signal
	Asked bool // we had asked it to
	what  string
}

func (e *ExitError) Error() string { return "the program ended: " + e.what }

// A program that fails is started again after pauses that double, from the
// first on when it had run for the longest.
const (
	againFirst = time.Second
	againMost  = time.Minute
)

// sigintGrace is for how long after a SIGINT the end of a program is taken for
// the answer, where StopTimeout is not longer. To start what somebody wanted to end
// does more harm than to end with what has failed soon after; servers commonly
// take half a minute to drain.
const sigintGrace = againMost

// supervisor is a run of an Exec.
type supervisor struct {
	*Exec
	job       bool // the program is a part of our job on a terminal
	child     *child
	held      map[string]holding
	startedAt time.Time
	toldAt    time.Time // the newest signal of new values; zero: none
	wanted    time.Time // since when there is a reason for a restart or a signal
	why       string

	stopping, ending bool // it was asked to end; and we do not start it again
	kill             *time.Timer
	interrupted      time.Time // when a SIGINT came
	failures         int
	notBefore        time.Time // after a failure
	seen             time.Time // what now told last
}

// Run runs the program until it has ended for good, and returns a [*ExitError];
// nil when it was never started. The end of ctx asks it to end. It is to be
// started when begin is closed and all that it is given is there.
func (e *Exec) Run(ctx context.Context, begin <-chan struct{}) error {
	alarm, err := e.live.Clock.NewAlarm()
	if err != nil {
		return fmt.Errorf("make the wall-clock alarm: %w", err)
	}
	defer alarm.Close()
	s := &supervisor{Exec: e, job: isJob(e.opt.Stdin), kill: time.NewTimer(time.Hour)}
	s.kill.Stop()
	defer s.kill.Stop()
	done := ctx.Done()
	for {
		if begin == nil {
			if end := s.step(); end != nil {
				return end
			}
			alarm.Set(s.wake())
		}
		var ended chan ending
		if s.child != nil {
			ended = s.child.ended
		}
		select {
		case <-begin:
			begin = nil
		case end := <-ended:
			if err := s.ended(end); err != nil {
				return err
			}
		case sig := <-e.signals:
			if err := s.pass(sig); err != nil {
				return err
			}
		case <-s.kill.C:
			e.live.Log.Warn("the program does not end, it is killed", "after", e.opt.StopTimeout.String())
			s.child.signal(syscall.SIGKILL, true)
		case <-e.rung:
		case <-alarm.C():
		case <-done:
			done = nil
			if s.ending = true; s.child == nil {
				return nil
			}
			s.stop()
		}
	}
}

// now is the wall time. When the clock was set back what has been is not in the
// future now, and waits are as long as they were.
func (s *supervisor) now() time.Time {
	now := s.live.Now()
	if back := s.seen.Sub(now); back > 0 {
		for _, t := range [...]*time.Time{&s.startedAt, &s.toldAt, &s.wanted, &s.interrupted, &s.notBefore} {
			if !t.IsZero() {
				*t = t.Add(-back)
			}
		}
	}
	s.seen = now
	return now
}

// step starts the program, or does to it what is due.
func (s *supervisor) step() error {
	now := s.now()
	if s.child == nil {
		if !s.ending && !now.Before(s.notBefore) {
			return s.start(now)
		}
		return nil
	}
	if s.stopping || !s.opt.Restart && s.opt.Signal == 0 {
		return nil
	}
	if s.wanted.IsZero() {
		if why, since := s.need(s.held, now); why != "" {
			s.wanted, s.why = since, why
		}
	}
	if s.wanted.IsZero() || now.Before(s.due()) {
		return nil
	}
	s.wanted = time.Time{}
	if s.opt.Restart {
		s.live.Log.Info("the program is restarted", "reason", s.why, "pid", s.child.cmd.Process.Pid)
		s.stop()
		return nil
	}
	if held, ok := s.ready(now, s.held); ok {
		s.live.Log.Info("the program is told of new values", "reason", s.why, "signal", s.opt.Signal.String(), "pid", s.child.cmd.Process.Pid)
		s.held, s.toldAt = held, now
		s.child.signal(s.opt.Signal, false)
	}
	return nil
}

// due is when what is wanted is done: for several tokens the others have time
// to be due as well, and nothing is done too often.
func (s *supervisor) due() time.Time {
	due := s.wanted
	if len(s.opt.Tokens) > 1 {
		due = due.Add(s.opt.Merge)
	}
	for _, last := range [...]time.Time{s.startedAt, s.toldAt} {
		if soonest := last.Add(s.opt.Merge); due.Before(soonest) {
			due = soonest
		}
	}
	// What may be about to end for good is not to be started again.
	if soonest := s.survivedInterruptAt(); s.opt.Restart && due.Before(soonest) {
		due = soonest
	}
	return due
}

// survivedInterruptAt is from when on a SIGINT that came counts as survived; zero
// if none came.
func (s *supervisor) survivedInterruptAt() time.Time {
	if s.interrupted.IsZero() {
		return time.Time{}
	}
	return s.interrupted.Add(max(sigintGrace, s.opt.StopTimeout))
}

// byInterrupt tells whether a program that a SIGINT came to ended because of it:
// it says so itself, as one without a handler and most others do; or it did not
// live through it. Who takes it for a word to go on with, as a shell does, and
// fails long after, has failed.
func (s *supervisor) byInterrupt(end ending, now time.Time) bool {
	return !s.interrupted.IsZero() && (end.code == codeSignal+int(syscall.SIGINT) || now.Before(s.survivedInterruptAt()))
}

// wake is when there may be something to do without news, by the local clock.
func (s *supervisor) wake() time.Time {
	var at time.Time
	now := s.now()
	switch {
	case s.child == nil && now.Before(s.notBefore):
		at = s.notBefore
	case s.child == nil, s.stopping, !s.opt.Restart && s.opt.Signal == 0:
	case !s.wanted.IsZero():
		at = s.due()
	default:
		_, at = s.need(s.held, now)
	}
	if at.IsZero() {
		return at
	}
	return s.live.Clock.Now().Add(at.Sub(now))
}

// start starts the program once there is all that it needs.
func (s *supervisor) start(now time.Time) error {
	held, ok := s.ready(now, s.held)
	if !ok {
		return nil
	}
	env, err := s.opt.environment(held)
	if err == nil {
		s.child, err = startChild(s.opt, s.live.Processes, env, !s.job)
	}
	s.held, s.startedAt, s.wanted, s.interrupted = held, now, time.Time{}, time.Time{}
	if err != nil {
		return s.failed(notStarted(err))
	}
	s.live.Log.Info("program started", "program", s.opt.Command[0], "pid", s.child.cmd.Process.Pid)
	return nil
}

// stop asks the program to end.
func (s *supervisor) stop() {
	if s.stopping {
		return
	}
	s.stopping = true
	s.interrupted = time.Time{} // one that it survived
	s.child.signal(s.opt.StopSignal, true)
	s.child.signal(syscall.SIGCONT, true) // who is stopped hears no other
	s.kill.Reset(s.opt.StopTimeout)
}

// ended takes note that the program has; the error is the end of all.
func (s *supervisor) ended(end ending) error {
	now := s.now()
	s.kill.Stop()
	asked := s.stopping || s.byInterrupt(end, now)
	// A Ctrl-C while it is being stopped, for another to be started, ends it all.
	stopped := s.stopping && s.interrupted.IsZero()
	s.child, s.stopping = nil, false
	switch {
	case s.ending, asked && !stopped:
		s.live.Log.Info("the program ended as it was asked to", "end", end.what)
		return &ExitError{Code: end.code, Asked: true, what: end.what}
	case stopped: // and is to be started again
		s.failures = 0
		return nil
	}
	return s.failed(end)
}

// failed decides what follows an end that nobody asked for.
func (s *supervisor) failed(end ending) error {
	now := s.now()
	if end.code == 0 {
		s.live.Log.Info("the program ended", "end", end.what)
		return &ExitError{what: end.what}
	}
	if !s.opt.StartAgain {
		// Whoever started us sees the code: no warning on a terminal that is its.
		s.live.Log.Info("the program ended, and we with it", "end", end.what)
		return &ExitError{Code: end.code, what: end.what}
	}
	if now.Sub(s.startedAt) >= againMost {
		s.failures = 0
	}
	pause := min(againFirst<<min(s.failures, 16), againMost)
	s.failures++
	s.notBefore = now.Add(pause)
	s.live.Log.Warn("the program ended, it is started again", "end", end.what, "failures", s.failures, "in", pause.String())
	return nil
}

// pass passes a signal on. It is the end where nobody is there to take it.
func (s *supervisor) pass(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return nil
	}
	if number == syscall.SIGINT {
		s.interrupted = s.now()
	}
	switch {
	case s.child != nil:
	case number == syscall.SIGINT, number == syscall.SIGHUP, number == syscall.SIGQUIT:
		return &ExitError{Code: codeSignal + int(number), Asked: true, what: "it did not run"}
	default:
		return nil
	}
	if !s.child.toldByTerminal(number, s.opt.Stdin) {
		s.child.signal(number, false)
	}
	return nil
}
