package main

import "syscall"

// processAttributes: a group of its own, so that Ctrl-C reaches us alone, and
// an end with ours even when we are killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
