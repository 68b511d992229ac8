package sink

import (
	"context"
	"log/slog"
	"net"

	"iam-token-refresher/sink/peer"
	"iam-token-refresher/sink/turns"
)

// ServerOptions make a [Server].
type ServerOptions struct {
	// Socket is what [SharedSocket] gave.
	Socket SocketOptions
	// Inherited is a socket that somebody else bound, such as systemd: its
	// mode and owner are left alone, and it is not removed at the end.
	Inherited net.Listener
	Accounts  *Accounts
	Live      Live
	Log       *slog.Logger // nil: no log
	// MaxConns and MaxConnsPerUser are 4096 and 2048 when zero, and less where
	// the process may have fewer descriptors.
	MaxConns, MaxConnsPerUser int

	peerOf func(net.Conn) (peer.Peer, error) // nil: peer.Of; for tests
}

// Server serves tokens on one Unix socket. It outlives changes of the
// configuration: its tokens, mode and owner can be replaced while it listens.
type Server struct {
	*hub
	*unixSocket
	id string
}

// NewServer makes a Server that does not listen yet. An unknown user or group
// is a [*refresher.Invalid].
func NewServer(o ServerOptions) (*Server, error) {
	u, err := newUnixSocket(o.Socket, o.Inherited, o.Accounts)
	if err != nil {
		return nil, err
	}
	if o.MaxConns == 0 {
		o.MaxConns = 4096
	}
	if o.MaxConnsPerUser == 0 {
		o.MaxConnsPerUser = 2048
	}
	if o.peerOf == nil {
		o.peerOf = peer.Of
	}
	return &Server{
		hub:        newHub(o.Live, turns.Options{Max: o.MaxConns, MaxPerUser: o.MaxConnsPerUser, Peer: o.peerOf, Log: o.Log}),
		unixSocket: u, id: "socket:" + o.Socket.Path,
	}, nil
}

// For makes the place of a token, which readers see once it is part of an
// [Server.Update]. allow nil lets everybody read who may connect; standard
// makes the token answer for the name default. An unknown user or group is a
// [*refresher.Invalid].
func (s *Server) For(token string, allow *Allow, standard bool, accounts *Accounts) (*Endpoint, error) {
	a, err := allow.resolve(accounts)
	if err != nil {
		return nil, err
	}
	e := newEndpoint(s.id, token, a, standard, s.check)
	e.keep = s.Keep
	return e, nil
}

// Update makes these the tokens that readers see, all at once. Those who wait
// for a token that is gone get their answer; connections of peers that may
// read less of what stays are closed.
func (s *Server) Update(endpoints ...*Endpoint) { s.update(endpoints) }

// SetSocket gives the socket the mode and owner of o while it listens.
// Connections of peers that these would not let in are closed, also those that
// were not yet accepted. A socket that was inherited is left alone.
func (s *Server) SetSocket(o SocketOptions, accounts *Accounts) error {
	return s.unixSocket.setSocket(s.hub, o, accounts)
}

// Listen binds the socket and serves it until [Server.Close].
func (s *Server) Listen() error { return s.server.ListenAndServe(s.path, s.unixSocket.listen, s.route) }

// check is [refresher.Sink.Check] of the endpoints.
func (s *Server) check() error {
	if s.server.Listening() && !s.lost() {
		return nil
	}
	return s.unixSocket.check()
}

// Keep binds the socket again where somebody removed or replaced its file, and
// does nothing else. The error is why nobody can connect.
func (s *Server) Keep() error { return s.unixSocket.keep(s.hub) }

// Close stops to listen, ends waits, answers the requests that were sent, and
// removes the socket's file if it is still the one that was made. When ctx
// ends first, connections are cut.
func (s *Server) Close(ctx context.Context) error {
	s.unixSocket.remove()
	return s.server.Close(ctx)
}
