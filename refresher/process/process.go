// Package process starts the child processes of this one, and is the only one
// that waits for them.
//
// A process that is init, as in most containers, inherits every orphan of the
// machine and must wait for each, or they fill the process table as zombies.
// Whoever does that with wait(-1) also takes the exit statuses of the children
// that os/exec waits for. So both go through one [Owner]: it knows which
// processes are its own, and takes only the others.
package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// Owner starts commands and knows which processes they are. Its methods may be
// called concurrently. A nil Owner runs commands, too, for programs that
// nothing but their own children can be left to.
type Owner struct {
	mu       sync.Mutex
	core     limit        // on core files, that programs are given
	own      limit        // our own, when no fork is under way
	starting int          // forks that may be under way
	ours     map[int]bool // started, and perhaps not waited for yet
	rung     chan struct{}
}

// New makes an Owner, of which a process needs one. It does nothing by itself.
// Programs get the limit on core files that is in force now, whatever we set for
// ourselves later.
func New() *Owner {
	return &Owner{core: coreLimit(), ours: map[int]bool{}, rung: make(chan struct{}, 1)}
}

// Phases are called by [Owner.Run] where they are not nil.
type Phases struct {
	// Started is called once the program runs.
	Started func()
	// Ended is called when it has ended, ok with exit code 0, and was not
	// waited for: its PID, and the ID of its process group, are still nobody
	// else's. (On systems other than Linux it was waited for, and they may be.)
	Ended func(ok bool)
}

// Run starts cmd and waits for its end, as [exec.Cmd.Run] does. On Linux the
// program is killed when we end before it, however that happens.
func (o *Owner) Run(cmd *exec.Cmd, p Phases) error {
	// The kernel kills it when the thread ends that has started it, and not
	// the process: the thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dieWithUs(cmd)
	reap := untilReaped(cmd)
	if err := o.start(cmd); err != nil {
		return err
	}
	defer o.forget(cmd.Process.Pid)
	if p.Started != nil {
		p.Started()
	}
	ended := p.Ended
	if ended == nil {
		ended = func(bool) {}
	}
	ok, seen := awaitEnd(cmd.Process.Pid)
	if seen {
		ended(ok)
		reap()
	}
	err := cmd.Wait()
	if !seen {
		ended(err == nil)
	}
	return err
}

// untilReaped has the command's context do nothing any more once reap was
// called: what it kills may be somebody else's then.
func untilReaped(cmd *exec.Cmd) (reap func()) {
	var mu sync.Mutex
	reaped := false
	if cancel := cmd.Cancel; cancel != nil {
		cmd.Cancel = func() error {
			mu.Lock()
			defer mu.Unlock()
			if reaped {
				return os.ErrProcessDone
			}
			return cancel()
		}
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		reaped = true
	}
}

// start makes a fork and the note of its PID one step to whoever reaps. The child
// inherits its limit: set afterwards, it would come too late for a quick one, and
// for its children.
func (o *Owner) start(cmd *exec.Cmd) error {
	if o == nil {
		return cmd.Start()
	}
	o.mu.Lock()
	if o.starting++; o.starting == 1 {
		o.own = coreLimit()
		o.core.set()
	}
	o.mu.Unlock()
	err := cmd.Start() // may hang where the program's file system does: no lock is held
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.starting--; o.starting == 0 {
		o.own.set()
	}
	if err == nil {
		o.ours[cmd.Process.Pid] = true
	}
	o.ring()
	return err
}

// forget lets go of a process that was waited for. Until then an orphan that
// got its PID was left alone, hence the ring.
func (o *Owner) forget(pid int) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.ours, pid)
	o.ring()
}

// ring has Reap look again.
func (o *Owner) ring() {
	select {
	case o.rung <- struct{}{}:
	default:
	}
}
