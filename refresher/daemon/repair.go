package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/watch"
)

// errUnconfigured is returned for a reload that finds no usable configuration
// while there is none in force.
var errUnconfigured = errors.New("there is no usable configuration yet: see the log")

// repair waits for a usable configuration where readers already wait on
// inherited sockets: ending instead would have the service manager start the
// daemon again and again for them, and then take the sockets away. They get
// 503 with what is wrong. It returns nil also when ctx ends.
func (d *Daemon) repair(ctx context.Context) error {
	log := d.log
	if log == nil {
		log = newLogging(d.opt.Stderr, config.LogOptions{}, &d.filter)
	}
	w, err := watch.New(watch.Options{Log: log.Logger})
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	if d.opt.ConfigPath != "" {
		w.Add(d.opt.ConfigPath, func() { ring(d.reread) })
	}
	a := &apology{}
	reason := d.filter.String(d.broken.Error())
	a.reason.Store(&reason) // before anybody can ask
	if err := a.serve(d.builder.inherited, log.Logger); err != nil {
		return err
	}
	defer a.close()
	// What is wrong may also be beside the configuration, such as a key file
	// that is still to come.
	wait := retryFirst
	timer := time.NewTimer(wait)
	defer timer.Stop()
	mistake, said := d.broken, ""
	for {
		text := d.filter.String(mistake.Error())
		if text != said {
			said = text
			log.Error("not configured: sockets answer 503 until this is put right", "error", mistake)
			a.reason.Store(&text)
			first, _, _ := strings.Cut(text, "\n")
			d.manager.status("not configured: " + first)
		}
		select {
		case <-d.reread:
			wait = retryFirst
		case <-timer.C:
			wait = min(2*wait, retryMost)
		case <-ctx.Done():
			return nil
		}
		p, err := d.load(nil)
		if err == nil {
			d.log.Info("configured")
			d.plan.Store(p)
			return nil
		}
		mistake = err
		timer.Reset(wait)
	}
}

// apology answers 503 to everything.
type apology struct {
	reason  atomic.Pointer[string]
	servers []*http.Server
	serving sync.WaitGroup
}

func (a *apology) serve(sockets inherited, log *slog.Logger) error {
	var listeners []net.Listener
	for path := range sockets {
		l, err := sockets.listen(path)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return err
		}
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		s := &http.Server{
			Handler: a, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		// Each answer ends its connection: the next one finds whoever serves then.
		s.SetKeepAlivesEnabled(false)
		a.servers = append(a.servers, s)
		a.serving.Go(func() { _ = s.Serve(l) })
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (a *apology) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	reason := ""
	if r := a.reason.Load(); r != nil {
		reason = *r
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", "30")
	w.WriteHeader(http.StatusServiceUnavailable)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(struct {
		Error  string `json:"error"`
		Reason string `json:"reason"`
		State  string `json:"state"`
	}{"the daemon has no usable configuration", reason, "not_configured"})
}

func (a *apology) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var ending sync.WaitGroup
	for _, s := range a.servers {
		ending.Go(func() {
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
		})
	}
	ending.Wait()
	a.serving.Wait()
}
