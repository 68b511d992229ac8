package daemon

import "golang.org/x/sys/unix"

// lowerCoreLimit forbids core files. The hard limit stays: the programs that
// are started get the old limit back.
func lowerCoreLimit() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	}
}
