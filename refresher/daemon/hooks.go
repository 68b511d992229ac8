package daemon

import (
	"syscall"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/sink"
)

// hook makes what stands at on_change of a sink.
func hook(token string, s refresher.Sink, c *config.Hook) sink.Hook {
	h := sink.Hook{Token: token, Sink: s.ID(), Timeout: c.Timeout}
	if f, ok := s.(interface{ Path() string }); ok {
		h.Path = f.Path()
	}
	switch {
	case c.Signal != nil:
		h.Action = sink.Signal{PIDFile: c.Signal.PIDFile, Signal: syscall.Signal(c.Signal.Name)}
	case c.SystemdUnit != nil:
		h.Action = sink.Systemctl(c.SystemdUnit.Name, c.SystemdUnit.Action)
	default:
		h.Action = sink.Command{Argv: c.Command}
	}
	return h
}
