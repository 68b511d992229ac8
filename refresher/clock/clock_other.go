//go:build !linux

package clock

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher"
)

// elapsed is CLOCK_MONOTONIC, which on macOS goes on while the machine sleeps
// (clock_gettime(3)).
func elapsed() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Since(started)
	}
	return time.Duration(ts.Nano())
}

func newKernelAlarm() (refresher.Alarm, error) { return nil, errors.ErrUnsupported }
