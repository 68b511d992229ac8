package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
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

// healthListener serves health and metrics.
type healthListener struct {
	server *http.Server
	served chan struct{}
}

func bindHealth(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
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
	l, err := bindHealth(addr)
	if err != nil {
		return nil, err
	}
	h := &healthListener{
		server: &http.Server{
			Handler:           status.Handler(d.source(), d.log.Logger),
			ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 16 << 10,
			ErrorLog:       slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		},
		served: make(chan struct{}),
	}
	go func() {
		defer close(h.served)
		_ = h.server.Serve(l)
	}()
	return h, nil
}

func (h *healthListener) close() {
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if h.server.Shutdown(ctx) != nil {
		_ = h.server.Close()
	}
	<-h.served
}
