package main

import (
	"os"
	"syscall"
)

// passedOn are the signals that a program gets from us beside SIGTERM, which
// asks us to end it. Left out are those that the runtime needs (SIGURG, SIGPIPE),
// that are about us alone (SIGCHLD and faults), and those by which a terminal
// stops us, which has told the program itself.
func passedOn() []os.Signal {
	return []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGIO,
	}
}
