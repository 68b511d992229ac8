package daemon

import (
	"runtime/debug"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager, if there is one.
func notify(state string) { _, _ = systemd.SdNotify(false, state) }

// settle gives back the memory that only the start needed.
func settle() { debug.FreeOSMemory() }
