package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/clock"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/sink"
)

// programLive is what the program of exec gets of us, and what is to be known
// of the daemon to run it.
func (d *Daemon) programLive() (sink.ExecOptions, sink.ExecLive) {
	return sink.ExecOptions{Stdin: d.opt.Stdin, Stdout: d.opt.Stdout, Stderr: d.opt.Stderr},
		sink.ExecLive{
			Processes: d.builder.processes, Log: d.log.Logger, Clock: clock.System{}, Now: d.builder.live.Now,
			Deadline: func(v refresher.Version) time.Time {
				for _, spec := range d.plan.Load().specs {
					if spec.Token == v.Token {
						return spec.Policy.Deadline(v)
					}
				}
				return time.Time{}
			},
		}
}

// program makes the plan's program, if there is to be one.
func (p *planner) program() {
	c := p.plan.cfg.Exec
	if len(c.Command) == 0 {
		return
	}
	o, live := p.builder.program()
	o.Command, o.Env = c.Command, c.Env
	o.Restart, o.Signal = c.OnRenew.Restart, syscall.Signal(c.OnRenew.Signal)
	o.EveryVersion, o.Merge = c.RestartOn == "version", c.Merge
	o.StopSignal, o.StopTimeout = syscall.Signal(c.StopSignal), c.StopTimeout
	o.StartAgain = c.OnExit == "restart"
	names := c.Tokens(p.plan.cfg.Tokens)
	for i := range p.plan.cfg.Tokens {
		t := &p.plan.cfg.Tokens[i]
		if _, named := slices.BinarySearch(names, t.Name); named {
			o.Tokens = append(o.Tokens, sink.ExecToken{Name: t.Name, Org: organization(t)})
		}
	}
	e, err := part(p, "exec "+describe(c)+describe(o.Tokens), func() (*sink.Exec, error) { return sink.NewExec(o, live) })
	if err != nil {
		p.fail(nil, err)
		return
	}
	p.plan.exec = e
}

// programSink is the place of a token in the program, if it gets it.
func (p *planner) programSink(t *config.Token) (refresher.Sink, bool) {
	if p.plan.exec == nil || !slices.Contains(p.plan.cfg.Exec.Tokens(p.plan.cfg.Tokens), t.Name) {
		return nil, false
	}
	s, _ := part(p, fmt.Sprintf("exec sink %p %s", p.plan.exec, t.Name), func() (refresher.Sink, error) { return p.plan.exec.For(t.Name), nil })
	return s, true
}

// program is the run of the program.
type program struct {
	ended <-chan error // receives once; nil when there is none
	stop  func() error // asks it to end, and returns how it has
}

// startProgram runs the plan's program until ctx is done. Without one it runs
// nothing.
func (d *Daemon) startProgram(ctx context.Context, p *plan) program {
	if p.exec == nil {
		return program{stop: func() error { return nil }}
	}
	begin := d.refresher.Ready() // a program that names no token reads one elsewhere
	if len(p.cfg.Exec.Tokens(p.cfg.Tokens)) > 0 {
		now := make(chan struct{})
		close(now)
		begin = now
	}
	ctx, cancel := context.WithCancel(ctx)
	ended, all := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(all)
		ended <- p.exec.Run(ctx, begin)
	}()
	return program{ended: ended, stop: func() error {
		cancel()
		<-all
		select {
		case err := <-ended:
			return err
		default: // it was received before
			return nil
		}
	}}
}

// HasProgram tells whether the configuration names a program to run.
func (d *Daemon) HasProgram() bool {
	p := d.plan.Load()
	return p != nil && p.exec != nil
}

// Signal passes a signal on to the program.
func (d *Daemon) Signal(s os.Signal) {
	if p := d.plan.Load(); p != nil && p.exec != nil {
		p.exec.Signal(s)
	}
}
