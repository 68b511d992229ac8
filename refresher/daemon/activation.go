package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"

	"iam-token-refresher/sink"
)

// inherited are listening Unix sockets, by path, that the service manager
// bound and goes on holding: readers who connect while nobody serves them
// wait there for the next process.
type inherited map[string]*os.File

// inherit takes over files, or those that the environment names, which is
// then cleared: the descriptors are nobody else's. What is not a listening
// Unix socket is in unfit.
func inherit(files []*os.File) (sockets inherited, unfit []string) {
	if files == nil {
		files = activation.Files(true)
	}
	sockets = inherited{}
	for _, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			unfit = append(unfit, fmt.Sprintf("%s: %v", f.Name(), err))
			_ = f.Close()
			continue
		}
		u, ok := l.(*net.UnixListener)
		if !ok || u.Addr().String() == "" {
			unfit = append(unfit, f.Name()+": not a Unix socket with a path: "+l.Addr().String())
			_ = l.Close()
			_ = f.Close()
			continue
		}
		u.SetUnlinkOnClose(false)
		sockets[u.Addr().String()] = f
		_ = u.Close()
	}
	return sockets, unfit
}

// find returns the path under which the socket of path was inherited: both
// may lead through other symlinks, as /var/run and /run do.
func (in inherited) find(path string) (as string, ok bool) {
	if _, ok := in[path]; ok {
		return path, true
	}
	for as := range in {
		if filepath.Base(as) == filepath.Base(path) && realDir(as) == realDir(path) {
			return as, true
		}
	}
	return "", false
}

func realDir(path string) string {
	dir := filepath.Dir(path)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// listen returns a listener on a copy of the descriptor: what is closed at the
// end of one configuration is there for the next.
func (in inherited) listen(path string) (net.Listener, error) {
	l, err := net.FileListener(in[path])
	if err != nil {
		return nil, fmt.Errorf("take over the socket %s: %w", path, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l, nil
}

// idleSockets serves the inherited sockets that no token is on: whoever
// connects must not wait for ever, and the daemon is told to reload there.
func (p *planner) idleSockets() {
	served := map[string]bool{}
	for _, l := range p.plan.listeners {
		if as, ok := p.inherited.find(l.options.Path); ok {
			served[as] = true
		}
	}
	for path := range p.inherited {
		if served[path] {
			continue
		}
		l, err := p.socketServer(sink.SocketOptions{Path: path})
		if err != nil {
			p.failTop("", err)
			continue
		}
		if p.log != nil && l.fresh {
			p.log.Debug("no token is on a socket of the service manager's: it takes a reload and nothing else", "socket", path)
		}
	}
}

// warnUnfit names what was inherited for nothing.
func warnUnfit(log *slog.Logger, unfit []string) {
	for _, what := range unfit {
		log.Warn("ignoring a socket passed by systemd: not a Unix socket with a path (ListenStream=/path)", "socket", what)
	}
}
