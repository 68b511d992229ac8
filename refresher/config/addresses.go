package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// listen is an address that is claimed to listen on.
type listen struct {
	as    string // as it is written
	hosts []netip.Addr
}

// localhost is what the name stands for.
var localhost = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// parseListen returns what an address stands for. ok is false of what is none,
// and of port 0, which is another one each time.
func parseListen(address string) (l listen, port uint64, ok bool) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return l, 0, false
	}
	port, err = strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return l, 0, false
	}
	l.as = address
	switch host {
	case "":
		l.hosts = []netip.Addr{netip.IPv6Unspecified()}
	case "localhost":
		l.hosts = localhost
	default:
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return l, 0, false
		}
		l.hosts = []netip.Addr{ip.Unmap()}
	}
	return l, port, true
}

// overlaps tells whether one of two listeners of a port keeps the other out.
// 0.0.0.0 is for IPv6 as well: Go listens there on both.
func (l listen) overlaps(other listen) bool {
	return slices.ContainsFunc(l.hosts, func(a netip.Addr) bool {
		return slices.ContainsFunc(other.hosts, func(b netip.Addr) bool {
			return a == b || a.IsUnspecified() || b.IsUnspecified()
		})
	})
}

// claimListen notes an address, or says what is wrong with it: a listener that
// is written otherwise has its port. Those that are written alike are found by
// their name.
func (d *decoder) claimListen(address string, claims map[string]owner, shares bool) (problem string) {
	l, port, ok := parseListen(address)
	if !ok {
		return ""
	}
	for _, other := range d.listens[port] {
		if other.as == address || !l.overlaps(other) {
			continue
		}
		by := claims[other.as]
		problem = fmt.Sprintf("overlaps with %q of %s: give each listener a port of its own", other.as, by.by)
		if shares && by.members != nil {
			problem += ", or write the address alike to share it"
		}
		return problem
	}
	if d.listens == nil {
		d.listens = map[uint64][]listen{}
	}
	d.listens[port] = append(d.listens[port], l)
	return ""
}
