package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"iam-token-refresher/refresher/process"
	"iam-token-refresher/sink"
)

// closeTimeout is how long readers may take for the answer that is under way
// when a listener closes.
const closeTimeout = 500 * time.Millisecond

func (w *web) client() *http.Client { return &http.Client{Transport: w.transport} }

// listen binds the plan's new listeners, all or none. Their tokens are there
// before the first reader: on a socket that was inherited one may be waiting.
func (p *plan) listen() error {
	var bound []interface{ Close(context.Context) error }
	var err error
	for _, l := range p.sockets {
		if l.fresh && err == nil {
			l.server.Update(l.endpoints...)
			if err = l.server.Listen(); err == nil {
				bound = append(bound, l.server)
			}
		}
	}
	for _, l := range p.metadata {
		if l.fresh && err == nil {
			l.server.Update(l.endpoints...)
			if err = l.server.Listen(); err == nil {
				bound = append(bound, l.server)
			}
		}
	}
	if err != nil {
		closeAll(bound)
	}
	return err
}

// show makes the plan's tokens visible on its listeners. A socket that was
// taken over gets its new mode and owner.
func (p *plan) show(processes *process.Owner) error {
	var errs []error
	for path, l := range p.sockets {
		if !l.fresh {
			if err := l.server.SetSocket(l.options, sink.NewAccounts(processes)); err != nil {
				errs = append(errs, fmt.Errorf("change mode and owner of socket %s: %w", path, err))
			}
		}
		l.fresh = false
		l.server.Update(l.endpoints...)
	}
	for _, l := range p.metadata {
		l.fresh = false
		l.server.Update(l.endpoints...)
	}
	return errors.Join(errs...)
}

// closeListeners closes those listeners of p that next has not, or those that
// p made anew where next is nil and onlyFresh is set.
func (p *plan) closeListeners(next *plan, onlyFresh bool) {
	var closing []interface{ Close(context.Context) error }
	for path, l := range p.sockets {
		if (next == nil || next.sockets[path] == nil) && (l.fresh || !onlyFresh) {
			closing = append(closing, l.server)
		}
	}
	for addr, l := range p.metadata {
		if (next == nil || next.metadata[addr] == nil) && (l.fresh || !onlyFresh) {
			closing = append(closing, l.server)
		}
	}
	closeAll(closing)
}

// closeAll closes servers at the same time: each may have a reader to wait for.
func closeAll(servers []interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	done := make(chan struct{})
	for _, s := range servers {
		go func() {
			_ = s.Close(ctx)
			done <- struct{}{}
		}()
	}
	for range servers {
		<-done
	}
}
