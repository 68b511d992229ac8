package config

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal is a signal by its name, such as HUP. The zero Signal is none.
type Signal syscall.Signal

// UnmarshalText reads HUP or SIGHUP.
func (s *Signal) UnmarshalText(text []byte) error {
	name := strings.TrimPrefix(strings.ToUpper(string(text)), "SIG")
	n := unix.SignalNum("SIG" + name)
	if n == 0 {
		return fmt.Errorf("%q is no signal: write a name such as HUP, TERM or USR1", text)
	}
	*s = Signal(n)
	return nil
}

// String is the name without SIG.
func (s Signal) String() string {
	return strings.TrimPrefix(unix.SignalName(syscall.Signal(s)), "SIG")
}

// MarshalText writes what UnmarshalText reads.
func (s Signal) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Renewal is what a program is told of a new value: "restart", "none", or
// "signal:" with the name of one.
type Renewal struct {
	Restart bool
	Signal  Signal // zero: none
}

// UnmarshalText reads one of the three.
func (r *Renewal) UnmarshalText(text []byte) error {
	name, isSignal := strings.CutPrefix(string(text), "signal:")
	switch {
	case string(text) == "restart":
		*r = Renewal{Restart: true}
	case string(text) == "none":
		*r = Renewal{}
	case isSignal:
		*r = Renewal{}
		return r.Signal.UnmarshalText([]byte(name))
	default:
		return fmt.Errorf("%q is not one of restart, none, signal:NAME", text)
	}
	return nil
}

// String is what UnmarshalText reads.
func (r Renewal) String() string {
	switch {
	case r.Restart:
		return "restart"
	case r.Signal != 0:
		return "signal:" + r.Signal.String()
	}
	return "none"
}

// MarshalText writes what UnmarshalText reads.
func (r Renewal) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
