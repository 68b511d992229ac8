//go:build !linux

package main

import "syscall"

// processAttributes: a group of its own, so that Ctrl-C reaches us alone.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
