package process

import "golang.org/x/sys/unix"

// limit is one of setrlimit(2): that on core files.
type limit struct{ unix.Rlimit }

func coreLimit() (l limit) {
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &l.Rlimit) // fails for no process
	return l
}

func (l limit) set() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &l.Rlimit) }
