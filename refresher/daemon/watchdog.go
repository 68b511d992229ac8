package daemon

import (
	"context"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"iam-token-refresher/refresher/status"
)

// statusPause is the least time between two status lines: what comes together
// is shown together.
const statusPause = time.Second

// ring is heard once, however often it rings before somebody listens.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// attend keeps the manager's status line current and its watchdog quiet, as
// long as the loop turns. It wakes up when something has happened and for the
// watchdog, and for nothing else: in between the line goes stale by minutes at
// most, as each probe and each beat of the watchdog shows it anew.
func (d *Daemon) attend(ctx context.Context) {
	if !d.manager.listens() {
		return
	}
	var beat <-chan time.Time
	patience := aliveTimeout
	if interval, err := systemd.SdWatchdogEnabled(false); err != nil {
		d.log.Error("no watchdog: what the service manager asks for is not understood", "error", err)
	} else if interval > 0 {
		ticker := time.NewTicker(interval / 2)
		defer ticker.Stop()
		beat, patience = ticker.C, min(patience, interval/4)
	}
	pause := time.NewTimer(0) // the first line at once
	defer pause.Stop()
	paused := true
	for {
		select {
		case <-d.rung:
			if !paused {
				paused = true
				pause.Reset(statusPause)
			}
			continue
		case <-pause.C:
			paused = false
		case <-beat:
			d.beat(ctx, patience)
		case <-ctx.Done():
			return
		}
		d.manager.status(d.line())
	}
}

// beat quiets the watchdog if the loop turns. The cloud, the disk and readers
// may hang as they like: the loop waits for none of them.
func (d *Daemon) beat(ctx context.Context, patience time.Duration) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := d.refresher.Alive(limited)
	switch {
	case err == nil:
		d.manager.send("WATCHDOG=1")
	case ctx.Err() == nil:
		d.log.Error("the main loop is stuck: WATCHDOG=1 is withheld, systemd will restart us", "patience", patience.String(), "error", err)
	}
}

// line sums up how the tokens are.
func (d *Daemon) line() string { return status.Line(d.snapshots(), d.refresher.Now()) }
