package sink

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/peer"
)

// SocketOptions describe the place of a token on a Unix socket. Several tokens
// may name the same path; see [SharedSocket].
type SocketOptions struct {
	Path    string   `yaml:"path" doc:"the socket, at most 107 bytes; tokens may share it" check:"required,path"`
	Mode    FileMode `yaml:"mode" doc:"quoted octal permissions: w lets connect (default \"0600\", with a group \"0660\", and \"0666\" where each token on the socket has allow); under socket activation the .socket unit decides"`
	Owner   string   `yaml:"owner" doc:"user that the socket belongs to, by name or number (default: ours)"`
	Group   string   `yaml:"group" doc:"group that the socket belongs to, by name or number (default: what a new file gets)"`
	Allow   *Allow   `yaml:"allow" doc:"who of those that may connect may read this token (default: all of them); uid 0 and our own uid always may"`
	Default bool     `yaml:"default" doc:"this token answers for the name default on the metadata routes (default: the only token there does)"`
}

// Allow names users and groups, by name or number.
type Allow struct {
	Users  []string `yaml:"users" doc:"users, by name or number"`
	Groups []string `yaml:"groups" doc:"groups, by name or number, primary or supplementary"`
}

// Validate finds what can be told without looking at the system.
func (o SocketOptions) Validate() error {
	var errs []error
	if err := checkSocketPath(o.Path); err != nil {
		errs = append(errs, &refresher.Invalid{Field: "path", Problem: err.Error()})
	}
	if err := o.Mode.validateSocket(); err != nil {
		errs = append(errs, err)
	}
	if o.Allow != nil {
		if len(o.Allow.Users)+len(o.Allow.Groups) == 0 {
			errs = append(errs, &refresher.Invalid{Field: "allow", Problem: "it allows nobody: name users or groups, or leave it out to allow all whom the mode lets connect"})
		}
		if slices.Contains(o.Allow.Users, "") {
			errs = append(errs, &refresher.Invalid{Field: "allow.users", Problem: "a user is empty: give a name or number"})
		}
		if slices.Contains(o.Allow.Groups, "") {
			errs = append(errs, &refresher.Invalid{Field: "allow.groups", Problem: "a group is empty: give a name or number"})
		}
	}
	return errors.Join(errs...)
}

func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path has %d bytes and the system takes at most %d for a socket: choose a shorter one", len(path), maxSocketPath)
	}
	return nil
}

// SharedSocket joins what the tokens on one path say of the socket itself:
// what one leaves out another may say, and what two say must agree. The result
// has a mode, and neither Allow nor Default.
func SharedSocket(tokens ...SocketOptions) (SocketOptions, error) {
	var all SocketOptions
	var errs []error
	open := true
	defaults := 0
	for _, o := range tokens {
		all.Path = o.Path
		open = open && o.Allow != nil
		if o.Default {
			defaults++
		}
		if all.Mode != 0 && o.Mode != 0 && all.Mode != o.Mode {
			errs = append(errs, &refresher.Invalid{Field: "mode", Problem: fmt.Sprintf(`%s cannot be "%s" for one token and "%s" for another: say it once`, o.Path, all.Mode, o.Mode)})
		}
		all.Mode = all.Mode.or(o.Mode)
		for _, f := range []struct {
			field    string
			all, one *string
		}{{"owner", &all.Owner, &o.Owner}, {"group", &all.Group, &o.Group}} {
			if *f.all != "" && *f.one != "" && *f.all != *f.one {
				errs = append(errs, &refresher.Invalid{Field: f.field, Problem: fmt.Sprintf("%s cannot belong to %s %q and %q: say it once", o.Path, f.field, *f.all, *f.one)})
			}
			if *f.all == "" {
				*f.all = *f.one
			}
		}
	}
	if defaults > 1 {
		errs = append(errs, &refresher.Invalid{Field: "default", Problem: fmt.Sprintf("%s has %d default tokens: mark one", all.Path, defaults)})
	}
	switch {
	case all.Mode != 0:
	case open && len(tokens) > 0:
		all.Mode = 0o666
	case all.Group != "":
		all.Mode = 0o660
	default:
		all.Mode = 0o600
	}
	return all, errors.Join(errs...)
}

// allowed is a resolved Allow; nil allows everybody.
type allowed struct{ uids, gids []uint32 }

// admits tells whether p may read.
func (a *allowed) admits(p *peer.Peer) bool {
	return a == nil || p.Admin() || slices.ContainsFunc(a.uids, p.Is) || p.In(a.gids)
}

func (a *Allow) resolve(accounts *Accounts) (*allowed, error) {
	if a == nil {
		return nil, nil
	}
	var r allowed
	for _, list := range []struct {
		field string
		names []string
		look  func(field, name string) (int, error)
		to    *[]uint32
	}{{"allow.users", a.Users, accounts.UID, &r.uids}, {"allow.groups", a.Groups, accounts.GID, &r.gids}} {
		for _, name := range list.names {
			id, err := list.look(list.field, name)
			if err != nil {
				return nil, err
			}
			if id == peer.Overflow {
				return nil, &refresher.Invalid{Field: list.field, Problem: fmt.Sprintf("%s is number %d, which the kernel shows for everybody it has no number for: it can never be allowed, use another account", name, peer.Overflow)}
			}
			*list.to = append(*list.to, uint32(id))
		}
	}
	return &r, nil
}

// MetadataOptions describe the place of a token on a TCP listener that speaks
// the cloud's metadata API. Every local process may read it.
type MetadataOptions struct {
	Listen  string `yaml:"listen" doc:"loopback address and port, such as 127.0.0.1:8775, or 169.254.169.254:80 where that is assigned to lo; tokens may share it" check:"required"`
	Default bool   `yaml:"default" doc:"this token answers for the name default (default: the only token there does)"`
}

// Validate finds what can be told without looking at the system.
func (o MetadataOptions) Validate() error {
	_, err := parseListen(o.Listen)
	if err == nil && strings.HasSuffix(o.Listen, ":0") {
		err = &refresher.Invalid{Field: "listen", Problem: "port 0 is a different one each time: choose a port"}
	}
	return err
}

func parseListen(s string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return ap, &refresher.Invalid{Field: "listen", Problem: fmt.Sprintf("%q is not an address and port: write for instance 127.0.0.1:8775", s)}
	case !isLocal(ap.Addr()):
		return ap, &refresher.Invalid{Field: "listen", Problem: fmt.Sprintf("%s can be reached from outside, and whoever reaches it reads the token: use a loopback address such as 127.0.0.1", ap.Addr())}
	}
	return ap, nil
}

func isLocal(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsLoopback() || a == netip.AddrFrom4([4]byte{169, 254, 169, 254})
}
