package daemon

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"iam-token-refresher/refresher/process"
	"iam-token-refresher/sink"
)

// closeTimeout is how long readers may take for the answer that is under way
// when a listener closes.
const closeTimeout = 500 * time.Millisecond

func (w *web) client() *http.Client { return &http.Client{Transport: w.transport} }

// server is a listener of package sink.
type server interface {
	Update(...*sink.Endpoint)
	Listen() error
	Close(context.Context) error
}

// listener is a server with the endpoints that readers are to see there.
type listener struct {
	server    server
	options   sink.SocketOptions // of a Unix socket
	endpoints []*sink.Endpoint
	fresh     bool // it does not listen yet
}

// unixServer is a server whose socket can change, and be lost, while it listens.
type unixServer interface {
	Keep() error
	Paths() []string
	TrySocket(sink.SocketOptions, *sink.Accounts) error
	SetSocket(sink.SocketOptions, *sink.Accounts) error
}

// listen binds the plan's new listeners, all or none, sees to it that those that
// were taken over can be reached, and tries what is to change of them. The tokens
// of new ones are there before the first reader: on a socket that was inherited
// one may be waiting.
func (p *plan) listen(processes *process.Owner) error {
	var bound []server
	for _, l := range p.inOrder() {
		if s, ok := l.server.(unixServer); ok && !l.fresh {
			err := s.Keep()
			if err == nil {
				err = s.TrySocket(l.options, sink.NewAccounts(processes))
			}
			if err != nil {
				closeSoon(bound)
				return err
			}
		}
		if !l.fresh {
			continue
		}
		l.server.Update(l.endpoints...)
		if err := l.server.Listen(); err != nil {
			closeSoon(bound)
			return err
		}
		bound = append(bound, l.server)
	}
	return nil
}

// inOrder are the listeners, Unix sockets first: whoever listens on one already
// can be named, and is the same who has the ports.
func (p *plan) inOrder() []*listener {
	keys := slices.SortedFunc(maps.Keys(p.listeners), func(a, b string) int {
		port := func(key string) int {
			if p.listeners[key].options.Path == "" {
				return 1
			}
			return 0
		}
		return cmp.Or(port(a)-port(b), strings.Compare(a, b))
	})
	all := make([]*listener, len(keys))
	for i, key := range keys {
		all[i] = p.listeners[key]
	}
	return all
}

// keepSocket puts a listener's socket back that somebody removed, also when no
// token there has a value. Its tokens' sinks tell what came of it, and try again.
func (d *Daemon) keepSocket(key string) {
	l := d.plan.Load().listeners[key]
	if l == nil {
		return
	}
	if s, ok := l.server.(unixServer); ok {
		_ = s.Keep()
	}
	for _, e := range l.endpoints {
		d.refresher.Disturbed(e.Token(), e.ID())
	}
}

// setSockets gives sockets that were taken over their new mode and owner.
func (p *plan) setSockets(processes *process.Owner) error {
	var errs []error
	for _, l := range p.inOrder() {
		if s, ok := l.server.(unixServer); ok && !l.fresh {
			errs = append(errs, s.SetSocket(l.options, sink.NewAccounts(processes)))
		}
	}
	return errors.Join(errs...)
}

// show makes the plan's tokens visible on its listeners.
func (p *plan) show() {
	for _, l := range p.inOrder() {
		l.fresh = false
		l.server.Update(l.endpoints...)
	}
}

// closeListeners closes the listeners of p, or only those that it made anew.
func (p *plan) closeListeners(onlyFresh bool) {
	var closing []server
	for _, l := range p.listeners {
		if l.fresh || !onlyFresh {
			closing = append(closing, l.server)
		}
	}
	closeSoon(closing)
}

// serversBeside are those of p's listeners that next has not.
func (p *plan) serversBeside(next *plan) (servers []server) {
	for key, l := range p.listeners {
		if next.listeners[key] == nil {
			servers = append(servers, l.server)
		}
	}
	return servers
}

func closeSoon(servers []server) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	closeAll(ctx, servers)
}

// closeAll closes servers at the same time: each may have a reader to wait for.
func closeAll(ctx context.Context, servers []server) {
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
