package daemon

import (
	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher/process"
)

// Processes starts the programs of this process; see [Options].
type Processes = process.Owner

// Harden keeps the secrets of this process out of core dumps and, on Linux, of
// other processes' reach. A program calls it before it reads any, whatever its
// command is, and gives the result to the [Options] of its daemon: what that
// starts gets the limit on core files back that was in force before.
func Harden() *Processes {
	processes := process.New() // remembers the limit
	hide()
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0 // the hard limit stays, or nobody could get more again
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	}
	return processes
}
