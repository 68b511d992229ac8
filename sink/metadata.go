package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"iam-token-refresher/sink/turns"
)

// MetadataServerOptions make a [MetadataServer].
type MetadataServerOptions struct {
	Listen string // as in [MetadataOptions]
	Live   Live
	Log    *slog.Logger // nil: no log
	// MaxConns is 1024 when zero, and less where the process may have fewer
	// descriptors. Who connects cannot be told on TCP: over the limit the
	// oldest silent connections are closed.
	MaxConns int
}

// MetadataServer serves tokens on a TCP port of this machine in the way that
// the cloud's metadata service does, to every local process.
type MetadataServer struct {
	*hub
	listen string
}

// NewMetadataServer makes a MetadataServer that does not listen yet.
func NewMetadataServer(o MetadataServerOptions) (*MetadataServer, error) {
	if _, err := parseListen(o.Listen); err != nil {
		return nil, err
	}
	if o.MaxConns == 0 {
		o.MaxConns = 1024
	}
	return &MetadataServer{hub: newHub(o.Live, turns.Options{Max: o.MaxConns, Log: o.Log}), listen: o.Listen}, nil
}

// For makes the place of a token, which readers see once it is part of an
// [MetadataServer.Update]; standard makes it answer for the name default.
func (m *MetadataServer) For(token string, standard bool) *Endpoint {
	return newEndpoint("metadata:"+m.listen, token, nil, standard, m.check)
}

// Update makes these the tokens that readers see, all at once.
func (m *MetadataServer) Update(endpoints ...*Endpoint) { m.update(endpoints) }

// Listen binds the port and serves it until [MetadataServer.Close].
func (m *MetadataServer) Listen() error {
	return m.server.ListenAndServe(m.listen, func() (net.Listener, error) { return listenTCP(m.listen) }, m.route)
}

// Close stops to listen and answers the requests that were sent. When ctx ends
// first, connections are cut.
func (m *MetadataServer) Close(ctx context.Context) error { return m.server.Close(ctx) }

func (m *MetadataServer) check() error {
	if m.server.Listening() {
		return nil
	}
	return checkTCP(m.listen)
}

func checkTCP(addr string) error {
	ln, err := listenTCP(addr)
	if err != nil {
		return err
	}
	return ln.Close()
}

func listenTCP(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		inUse := &InUseError{By: "another process"}
		if listenHere(addr) {
			inUse = inUseByUs()
		}
		return nil, fmt.Errorf("listen on %s: %w", addr, inUse)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w: choose a free port; the address must be assigned to this machine, and ports under 1024 need CAP_NET_BIND_SERVICE", addr, errors.Unwrap(err))
	}
	return ln, nil
}

// listenHere tells whether a listener of this process, whosever it is, keeps
// others from addr.
func listenHere(addr string) bool {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	open, _ := os.ReadDir(ownDescriptors)
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || accepts == 0 {
			continue
		}
		var ip netip.Addr
		var port int
		switch at, _ := unix.Getsockname(fd); at := at.(type) {
		case *unix.SockaddrInet4:
			ip, port = netip.AddrFrom4(at.Addr), at.Port
		case *unix.SockaddrInet6:
			ip, port = netip.AddrFrom16(at.Addr).Unmap(), at.Port
		}
		if port == int(want.Port()) && (ip == want.Addr().Unmap() || ip.IsUnspecified() || want.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

// route serves what the SDKs ask for, and nothing to a browser that was lured
// here: it cannot send the flavor, and names a foreign host.
func (m *MetadataServer) route(w http.ResponseWriter, r *http.Request) {
	if !localHost(r.Host) || len(r.Header["X-Forwarded-For"]) > 0 {
		writeJSON(w, http.StatusForbidden, problem{Error: "forbidden", Reason: "address this service as localhost or by a loopback address, and without a proxy"})
		return
	}
	name, ok := serviceName(r.URL.Path)
	if !ok {
		notFound(w)
		return
	}
	m.getService(w, r, name, nil)
}

func localHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && isLocal(ip)
}
