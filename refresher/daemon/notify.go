package daemon

import (
	"os"
	"runtime/debug"
	"strings"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// settle gives back the memory that only the start needed.
func settle() { debug.FreeOSMemory() }

// manager tells the service manager, if one waits for it, how the daemon is
// (sd_notify(3)). Its methods may be called concurrently.
type manager struct {
	mu    sync.Mutex
	ready bool   // READY=1 was sent
	ended bool   // STOPPING=1 was sent: it was the last word
	said  string // the status line
}

// listens tells whether anybody wants to know.
func (*manager) listens() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// send passes lines of VARIABLE=value on. What is not heard is not repeated:
// the manager may be restarting itself, and asks for nothing.
func (*manager) send(lines ...string) { _, _ = systemd.SdNotify(false, strings.Join(lines, "\n")) }

// status shows line where it differs from what is shown.
func (m *manager) status(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if line != m.said && !m.ended {
		m.said = line
		m.send("STATUS=" + line)
	}
}

// readyNow ends the start.
func (m *manager) readyNow(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.ready, m.said = true, line
	m.send("READY=1", "STATUS="+line)
}

// reloading says that a change is tried; the returned function says that it
// is over. Before the start is over it says nothing: the end of a reload is
// announced in the words of the end of the start.
func (m *manager) reloading() (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready || m.ended {
		return func() {}
	}
	m.send("RELOADING=1", "MONOTONIC_USEC="+monotonicMicroseconds())
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.ended {
			m.send("READY=1")
		}
	}
}

// stopping begins the end.
func (m *manager) stopping() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	m.send("STOPPING=1", "STATUS=stopping")
}
