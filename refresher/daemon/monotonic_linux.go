package daemon

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonicMicroseconds is the time by which systemd tells a reload that
// began after it asked for one from an earlier one.
func monotonicMicroseconds() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it cannot fail for this clock
	return strconv.FormatInt(now.Nano()/1000, 10)
}
