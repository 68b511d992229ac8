package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep tokens fresh until told to stop",
		Long: `Mints, proves, publishes and renews tokens until SIGTERM or SIGINT; a second one
ends it at once. SIGHUP reads the configuration again, as does a change of the
file. Logs go to stderr.`,
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
		return a.run(cmd.Context(), from, signals)
	}
	return cmd
}

// run runs a daemon and hands it the signals.
func (a *app) run(ctx context.Context, from origin, signals <-chan os.Signal) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reload := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- a.serve(ctx, from, reload) }()
	stopping := false
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				select {
				case reload <- struct{}{}:
				default: // one is due already
				}
			case stopping:
				return errors.New("ended at once by a second signal: readers may have been cut off")
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
func (a *app) serve(ctx context.Context, from origin, reload <-chan struct{}) error {
	d, err := a.build(ctx, from)
	if err != nil {
		return err
	}
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
