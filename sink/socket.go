package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
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
}

// Server serves tokens on one Unix socket. It outlives changes of the
// configuration: its tokens, mode and owner can be replaced while it listens.
type Server struct {
	*hub
	path      string
	id        string
	inherited net.Listener

	// attributes guards what Listen and SetSocket change.
	attributes sync.Mutex
	mode       FileMode
	uid, gid   int
	bound      *bound
}

// NewServer makes a Server that does not listen yet. An unknown user or group
// is a [*refresher.Invalid].
func NewServer(o ServerOptions) (*Server, error) {
	uid, gid, err := socketOwner(o.Socket, o.Accounts)
	if err != nil {
		return nil, err
	}
	if o.MaxConns == 0 {
		o.MaxConns = 4096
	}
	if o.MaxConnsPerUser == 0 {
		o.MaxConnsPerUser = 2048
	}
	most, perUser := limits(o.MaxConns, o.MaxConnsPerUser)
	return &Server{
		hub:  newHub(o.Live, o.Log, newGate(most, perUser, false, peerOf, o.Log)),
		path: o.Socket.Path, id: "socket:" + o.Socket.Path, inherited: o.Inherited,
		mode: o.Socket.Mode.or(0o600), uid: uid, gid: gid,
	}, nil
}

func socketOwner(o SocketOptions, accounts *Accounts) (uid, gid int, err error) {
	uid, err = accounts.UID("owner", o.Owner)
	if err == nil {
		gid, err = accounts.GID("group", o.Group)
	}
	return uid, gid, err
}

// Path is the socket's path.
func (s *Server) Path() string { return s.path }

// For makes the place of a token, which readers see once it is part of an
// [Server.Update]. allow nil lets everybody read who may connect; standard
// makes the token answer for the name default. An unknown user or group is a
// [*refresher.Invalid].
func (s *Server) For(token string, allow *Allow, standard bool, accounts *Accounts) (*Endpoint, error) {
	a, err := allow.resolve(accounts)
	if err != nil {
		return nil, err
	}
	return newEndpoint(s.id, token, a, standard, s.check), nil
}

// Update makes these the tokens that readers see, all at once. Those who wait
// for a token that is gone get their answer; connections of peers that may
// read less of what stays are closed.
func (s *Server) Update(endpoints ...*Endpoint) { s.update(endpoints) }

// SetSocket changes mode and owner of the socket to those of o, at once. A
// socket that was inherited is left alone.
func (s *Server) SetSocket(o SocketOptions, accounts *Accounts) error {
	uid, gid, err := socketOwner(o, accounts)
	if err != nil {
		return err
	}
	s.attributes.Lock()
	defer s.attributes.Unlock()
	mode := o.Mode.or(0o600)
	if s.mode == mode && s.uid == uid && s.gid == gid {
		return nil
	}
	if s.bound != nil {
		// What is left out is ours again, and not what it was before.
		wantUID, wantGID := uid, gid
		if wantUID < 0 && s.uid >= 0 {
			wantUID = os.Geteuid()
		}
		if wantGID < 0 && s.gid >= 0 {
			wantGID = os.Getegid()
		}
		if err := setSocketAttributes(s.path, mode, wantUID, wantGID); err != nil {
			return fmt.Errorf("change %s: %w", s.path, err)
		}
	}
	s.mode, s.uid, s.gid = mode, uid, gid
	return nil
}

// Listen binds the socket and serves it until [Server.Close].
func (s *Server) Listen() error {
	s.attributes.Lock()
	defer s.attributes.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("listen on " + s.path + ": it listens already")
	}
	select {
	case <-s.closing:
		return errors.New("listen on " + s.path + ": it was closed")
	default:
	}
	ln := s.inherited
	if ln == nil {
		b, err := bind(s.path, s.mode, s.uid, s.gid)
		if err != nil {
			return err
		}
		s.bound, ln = b, b.UnixListener
	} else if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	s.serve(ln, s.route)
	return nil
}

// check is [refresher.Sink.Check] of the endpoints.
func (s *Server) check() error {
	if s.inherited != nil || s.listening() {
		return nil
	}
	return checkBind(s.path)
}

// Close stops to listen, ends waits, answers the requests that were sent, and
// removes the socket's file if it is still the one that was made. When ctx
// ends first, connections are cut.
func (s *Server) Close(ctx context.Context) error {
	s.attributes.Lock()
	b := s.bound
	s.bound = nil
	s.attributes.Unlock()
	if b != nil {
		b.remove()
	}
	return s.close(ctx)
}
