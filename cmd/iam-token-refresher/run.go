package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/daemon"
	"iam-token-refresher/sink"
)

func (a *app) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep tokens fresh until told to stop",
		Long: `Mints, proves, publishes and renews tokens until SIGTERM or SIGINT; a second one
ends it at once. SIGHUP reads the configuration again, as does a change of the
file. Logs go to stderr. A program that the configuration names in exec gets all
other signals, and when it ends, this does, with its exit code.`,
		Example: `  iam-token-refresher run --config /etc/iam-token-refresher/config.yaml

  # One token needs no file:
  iam-token-refresher run --key-file /etc/iam-token-refresher/bot.json \
    --cloud-org-id bpfaidqca8vd0m5jl3fp --file /run/iam-token-refresher/bot.token`,
		Args: noArgs,
	}
	s := addSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := s.origin(cmd, a)
		if err != nil {
			return err
		}
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		defer signal.Stop(signals)
		err = a.run(cmd.Context(), from, signals, false)
		var end *sink.ExitError
		if errors.As(err, &end) && end.Asked {
			return nil // as we were
		}
		return err
	}
	return cmd
}

// run runs a daemon and hands it the signals. Those that a daemon without a
// program has no use for are listened to once there is one; hangUp says that
// SIGHUP is for it, too.
func (a *app) run(ctx context.Context, from origin, signals chan os.Signal, hangUp bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Who reads our log may go before us: lines are lost then, and no reader of
	// tokens. (What is ignored our children would ignore as well.)
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	defer signal.Stop(unread)
	reload := make(chan struct{}, 1)
	ended := make(chan error, 1)
	var program atomic.Pointer[daemon.Daemon]
	go func() {
		ended <- a.serve(ctx, from, reload, func(d *daemon.Daemon) {
			if d.HasProgram() {
				program.Store(d)
				signal.Notify(signals, passedOn()...)
			}
		})
	}()
	stopping := false
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			d := program.Load()
			switch {
			case d != nil && s != syscall.SIGTERM && (s != syscall.SIGHUP || hangUp):
				d.Signal(s)
			case s == syscall.SIGHUP && hangUp:
				stop()
			case s == syscall.SIGHUP:
				select {
				case reload <- struct{}{}:
				default: // one is due already
				}
			case stopping:
				a.endSoon(nil)
				return errAtOnce
			default:
				stopping = true
				stop()
			}
		}
	}
}

// gcPercent makes collections more frequent than usual once the configuration is
// read. What stays lies more densely then, which with many tokens is worth 1 KB
// for each, and costs no time that could be measured beside their signatures.
const gcPercent = 50

// serve runs a daemon until ctx is done, and reloads it when asked to.
// built is told of the daemon before it runs, and again when a broken
// configuration was put right.
func (a *app) serve(ctx context.Context, from origin, reload <-chan struct{}, built func(*daemon.Daemon)) error {
	d, err := a.build(ctx, from, built)
	if err != nil {
		return err
	}
	built(d)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := context.WithCancel(ctx)
	var reloader sync.WaitGroup
	reloader.Go(func() {
		for {
			select {
			case <-reload:
				_, _ = d.Reload(ctx) // it logs what came of it
			case <-ctx.Done():
				return
			}
		}
	})
	err = d.Run(ctx)
	stop()
	reloader.Wait()
	return err
}
