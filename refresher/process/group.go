package process

import (
	"os/exec"
	"strings"
	"syscall"
)

// InGroup gives the program a process group of its own, and has the end of the
// command's context kill all of that.
func InGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return KillGroup(cmd) }
}

// KillGroup kills what is left of a started command's group. While any of it
// lives, or the command was not waited for, the group's ID is nobody else's:
// [Phases].Ended is the place to call it.
func KillGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// Environment is environ without what was told to us alone: a child could
// notify the service manager in our name, or take our sockets, our credentials
// and our configuration for its own. ITR_SOCKET stays, by which programs find
// the daemon.
func Environment(environ []string) []string {
	kept := make([]string, 0, len(environ))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if name == "NOTIFY_SOCKET" || name == "CREDENTIALS_DIRECTORY" ||
			strings.HasPrefix(name, "LISTEN_") || strings.HasPrefix(name, "WATCHDOG_") ||
			strings.HasPrefix(name, "ITR_") && name != "ITR_SOCKET" {
			continue
		}
		kept = append(kept, entry)
	}
	return kept
}
