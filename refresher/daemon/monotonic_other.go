//go:build !linux

package daemon

// monotonicMicroseconds is only asked for where there is systemd.
func monotonicMicroseconds() string { return "0" }
