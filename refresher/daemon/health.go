package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
	"iam-token-refresher/sink/turns"
)

// aliveTimeout is how long the loop may take to notice a question.
const aliveTimeout = 5 * time.Second

// source is where the status comes from.
func (d *Daemon) source() status.Source {
	return status.Source{
		Snapshots: d.snapshots,
		Now:       d.refresher.Now,
		Alive: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), aliveTimeout)
			defer cancel()
			if err := d.refresher.Alive(ctx); err != nil {
				return fmt.Errorf("the main loop is stuck, it did not turn within %s: %w", aliveTimeout, err)
			}
			return nil
		},
		Readiness:    &d.ready,
		Durations:    d.times,
		Reads:        d.reads,
		HookFailures: d.hooks.Failures, HookFailure: d.hooks.Failure,
		Reloads: func() map[string]uint64 {
			return map[string]uint64{"failure": d.reloads[0].Load(), "success": d.reloads[1].Load()}
		},
		ClockSkew: func() time.Duration { return -d.refresher.Skew() },
		Version:   d.opt.Version,
	}
}

// snapshots are in the order of the configuration.
func (d *Daemon) snapshots() []refresher.Status {
	specs := d.plan.Load().specs
	all := make([]refresher.Status, 0, len(specs))
	for _, spec := range specs {
		if s, ok := d.refresher.Snapshot(spec.Token); ok {
			all = append(all, s)
		}
	}
	return all
}

func (d *Daemon) reads(token, sinkID string) map[string]uint64 {
	if e := d.plan.Load().endpoints[spot{token, sinkID}]; e != nil {
		return e.Reads()
	}
	return nil
}

// healthConns is how many connections there may be: some scrapers and probes,
// and whoever else can reach the port. Over that the oldest idle ones are closed.
const healthConns = 64

// healthListener serves health and metrics.
type healthListener struct{ server *turns.Server }

func bindHealth(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: another process listens there: stop it or choose another address (ss -ltnp shows it)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for health and metrics (status.listen): %w", err)
	}
	return l, nil
}

// checkHealth tells whether listenHealth would work.
func checkHealth(addr string) error {
	l, err := bindHealth(addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// listenHealth serves on addr; nothing when it is empty.
func (d *Daemon) listenHealth(addr string) (*healthListener, error) {
	if addr == "" {
		return nil, nil
	}
	bind := func() (net.Listener, error) { return bindHealth(addr) }
	return serveHealth(addr, bind, status.Handler(d.source(), d.log.Logger), d.log.Logger)
}

func serveHealth(addr string, bind func() (net.Listener, error), handler http.Handler, log *slog.Logger) (*healthListener, error) {
	h := &healthListener{turns.NewServer(turns.Options{Max: healthConns, Log: log})}
	if err := h.server.ListenAndServe(addr, bind, handler.ServeHTTP); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *healthListener) close() {
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = h.server.Close(ctx)
}
