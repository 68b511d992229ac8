package sink

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"iam-token-refresher/refresher"
)

// ProxyOptions describe a listener that forwards requests to the Tracker API
// with the token that it belongs to. Whoever may connect acts as the token's
// owner, and sees no token.
type ProxyOptions struct {
	Listen string   `yaml:"listen" doc:"path of a Unix socket, or loopback address and port such as 127.0.0.1:8776, where every local process may use it" check:"required,listen"`
	Mode   FileMode `yaml:"mode" doc:"quoted octal permissions of the socket: w lets connect (default \"0600\", with a group \"0660\", and \"0666\" with allow)"`
	Owner  string   `yaml:"owner" doc:"user that the socket belongs to, by name or number (default: ours)"`
	Group  string   `yaml:"group" doc:"group that the socket belongs to, by name or number (default: what a new file gets)"`
	Allow  *Allow   `yaml:"allow" doc:"who of those that may connect may use it (default: all of them); uid 0 and our own uid always may"`
}

// Validate finds what can be told without looking at the system.
func (o ProxyOptions) Validate() error {
	if !o.TCP() {
		err := o.socket().Validate()
		if long := new(refresher.Invalid); errors.As(err, &long) && long.Field == "path" {
			long.Field = "listen"
		}
		return err
	}
	ap, err := netip.ParseAddrPort(o.Listen)
	switch {
	case err != nil:
		return &refresher.Invalid{Field: "listen", Problem: fmt.Sprintf("%q is neither a path nor an address and port: write for instance /run/tracker.sock or 127.0.0.1:8776", o.Listen)}
	case !ap.Addr().Unmap().IsLoopback():
		return &refresher.Invalid{Field: "listen", Problem: fmt.Sprintf("%s can be reached from outside, and whoever reaches it acts as the token's owner: use a loopback address such as 127.0.0.1", ap.Addr())}
	case ap.Port() == 0:
		return &refresher.Invalid{Field: "listen", Problem: "port 0 is a different one each time: choose a port"}
	}
	var errs []error
	for _, f := range []struct {
		name  string
		given bool
	}{{"mode", o.Mode != 0}, {"owner", o.Owner != ""}, {"group", o.Group != ""}, {"allow", o.Allow != nil}} {
		if f.given {
			errs = append(errs, &refresher.Invalid{Field: f.name, Problem: "on TCP nobody knows who connects: give a path in listen, or leave this out"})
		}
	}
	return errors.Join(errs...)
}

// TCP tells whether every process of this machine can connect.
func (o ProxyOptions) TCP() bool { return !strings.HasPrefix(o.Listen, "/") }

func (o ProxyOptions) socket() SocketOptions {
	return SocketOptions{Path: o.Listen, Mode: o.Mode, Owner: o.Owner, Group: o.Group, Allow: o.Allow}
}

// Socket is what the socket of a path is to be like, with its mode.
func (o ProxyOptions) Socket() SocketOptions {
	s, _ := SharedSocket(o.socket()) // one alone contradicts nobody
	return s
}
