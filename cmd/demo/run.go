package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// options are what the command line says.
type options struct {
	refresher, emulator string // programs
	renewals            int
}

// runWithin is how long all of it may take.
const runWithin = 56 * time.Second

// lookEvery is how often the story looks at how things are.
const lookEvery = 100 * time.Millisecond

// demo is a run.
type demo struct {
	options
	board *board
	place *place

	emulatorProcess, daemonProcess *child
	cloud                          *cloud
	ask                            *asker
	judge                          *judge
	watching                       sync.WaitGroup // readers, bot and judge
	stopWatching                   context.CancelFunc
}

// run plays the demo on a display and returns the exit code.
func run(ctx context.Context, o options, d display) int {
	start := time.Now()
	r := &demo{options: o, board: newBoard(start, o.renewals)}
	limited, cancel := context.WithTimeoutCause(ctx, runWithin, fmt.Errorf("it did not end within %s", spoken(runWithin)))
	defer cancel()

	showing, stopShowing := context.WithCancel(context.Background())
	var shown sync.WaitGroup
	shown.Go(func() { show(showing, d, r.board) })

	res, err := r.play(limited)
	children := []*child{r.daemonProcess, r.emulatorProcess}
	err = errors.Join(err, r.close())
	stopShowing()
	shown.Wait()

	v := r.board.view(time.Now())
	if ctx.Err() != nil {
		d.end(v, []line{nil, {{caution, " Interrupted: the processes were ended and the files removed."}}})
		return exitInterrupted
	}
	if err != nil {
		d.end(v, apology(err, children))
		return exitFailed
	}
	res.took = time.Since(start)
	lines, ok := res.closing()
	d.end(v, lines)
	if !ok {
		return exitFailed
	}
	return exitDone
}

// play sets the stage, follows the story to its end and adds up.
func (r *demo) play(ctx context.Context) (result, error) {
	if err := r.setUp(ctx); err != nil {
		return result{}, err
	}
	watch, stop := context.WithCancel(ctx)
	r.stopWatching = stop
	r.judge = &judge{ledger: r.board.ledger, try: r.cloud.try, issued: r.cloud.issued}
	if err := r.follow(ctx, watch); err != nil {
		return result{}, err
	}
	// The last reads are judged like all others.
	stop()
	r.watching.Wait()
	r.judge.flush(ctx)
	return r.addUp(ctx)
}

// setUp starts the cloud and the daemon.
func (r *demo) setUp(ctx context.Context) (err error) {
	if r.place, err = newPlace(); err != nil {
		return err
	}
	ready := make(chan struct{})
	once := sync.OnceFunc(func() { close(ready) })
	r.emulatorProcess, err = startChild("the stand-in cloud", func(string) { once() }, r.emulator,
		"--dir", r.place.dir, "--token-lifetime", tokenLifetime.String())
	if err != nil {
		return err
	}
	select {
	case <-ready: // it says one line when everything is there
	case <-r.emulatorProcess.done:
		return r.emulatorProcess.ended()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	at, err := r.place.readEndpoints()
	if err != nil {
		return err
	}
	if r.cloud, err = newCloud(ctx, at, r.place.path("ca.pem")); err != nil {
		return err
	}
	r.board.tell("cloud", neutral, "a stand-in runs on loopback: IAM, Tracker and the rest")
	config, err := r.place.writeConfig(at, r.cloud.org)
	if err != nil {
		return err
	}
	r.ask = newAsker(r.place)
	r.daemonProcess, err = startChild("the daemon", r.board.heard, r.refresher, "run", "--config", config)
	return err
}

// follow carries out what the story orders until it is over.
func (r *demo) follow(ctx, watch context.Context) error {
	s := &story{renewals: r.renewals}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.daemonProcess.done:
			return r.daemonProcess.ended()
		case <-r.emulatorProcess.done:
			return r.emulatorProcess.ended()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		status, err := r.ask.status(ctx)
		if err != nil && s.step > publishing && ctx.Err() == nil {
			return fmt.Errorf("ask the daemon how the token is: %w", err)
		}
		f := facts{status: status}
		var since time.Time
		f.held, since = r.board.ledger.holds()
		order, err := s.next(f, time.Now())
		if err != nil {
			return err
		}
		if r.board.follow(f, s) && s.stage > renew {
			sum := r.board.ledger.counts().total()
			r.board.tell("readers", good, fmt.Sprintf("%d reads so far, %d of an expired token", sum.reads, sum.judged[expired]))
		}
		if s.stage == summary {
			r.announceReplacement(s.revoked, f.held, since)
		}
		if err := r.carryOut(ctx, watch, order, s); err != nil {
			return err
		}
		if order == finish {
			return nil
		}
	}
}

func (r *demo) announceReplacement(revoked, held uint64, since time.Time) {
	if held <= revoked {
		return
	}
	if took := r.board.replaced(since); took > 0 {
		r.board.tell("readers", good, fmt.Sprintf("all have version %d, %.1f s after the revocation", held, took.Seconds()))
	}
}

func (r *demo) carryOut(ctx, watch context.Context, o order, s *story) error {
	now := time.Now()
	switch o {
	case startReaders:
		r.startWatching(watch)
	case startOutage:
		if err := r.cloud.breakIAM(ctx); err != nil {
			return err
		}
		r.board.tell("cloud", bad, "IAM goes down: every call is answered UNAVAILABLE")
	case endOutage:
		if err := r.cloud.mendIAM(ctx); err != nil {
			return err
		}
		r.board.tell("cloud", good, "IAM is back")
	case revokeToken:
		value, ok := r.board.ledger.valueOf(s.revoked)
		if !ok {
			return fmt.Errorf("no reader has version %d, which is to be revoked", s.revoked)
		}
		r.board.ledger.revoking(value)
		if err := r.cloud.revoke(ctx, value); err != nil {
			return err
		}
		r.board.tell("cloud", bad, fmt.Sprintf("version %d is revoked, with most of its life ahead", s.revoked))
	case nothing, finish:
	}
	r.board.went(o, s.revoked, now)
	return nil
}

// startWatching starts the readers, the bot and the judge.
func (r *demo) startWatching(ctx context.Context) {
	l := r.board.ledger
	b := &bot{ledger: l, ask: r.ask, judge: r.judge, onRejected: func(version uint64, err error) {
		r.board.noticed(time.Now())
		if err != nil {
			r.board.tell("bot", bad, fmt.Sprintf("cannot report its 401 with version %d: %v", version, err))
			return
		}
		r.board.tell("bot", warning, fmt.Sprintf("Tracker gives it 401: it reports version %d to the daemon", version))
	}}
	r.watching.Go(func() { r.judge.run(ctx) })
	r.watching.Go(func() { readFile(ctx, l, r.place.path("bot.token")) })
	r.watching.Go(func() { readSocket(ctx, l, r.ask) })
	r.watching.Go(func() { readMetadata(ctx, l, r.ask) })
	r.watching.Go(func() { b.listen(ctx) })
	r.watching.Go(func() { b.work(ctx) })
}

// addUp asks the daemon and the cloud for their own counts.
func (r *demo) addUp(ctx context.Context) (result, error) {
	probes, err := r.ask.probes(ctx)
	if err != nil {
		return result{}, err
	}
	calls, err := r.cloud.calls(ctx)
	if err != nil {
		return result{}, err
	}
	res := r.board.result()
	res.probes, res.mints = probes, calls["iam/Create"]
	return res, nil
}

// close ends everything that was started, the daemon first, and removes the
// files.
func (r *demo) close() error {
	if r.stopWatching != nil {
		r.stopWatching()
	}
	r.watching.Wait()
	r.daemonProcess.stop()
	r.emulatorProcess.stop()
	if r.place == nil {
		return nil
	}
	return r.place.remove()
}
