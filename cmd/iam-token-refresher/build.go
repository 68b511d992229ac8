package main

import (
	"context"
	"os"

	"iam-token-refresher/refresher/daemon"
)

// build makes a daemon of what the settings name; it serves nothing yet.
func (a *app) build(ctx context.Context, from origin, repaired func(*daemon.Daemon)) (*daemon.Daemon, error) {
	return daemon.New(ctx, daemon.Options{
		Load:       from.read,
		ConfigPath: from.path,
		Stdin:      os.Stdin,
		Stdout:     a.stdout.file,
		Stderr:     a.stderr,
		Processes:  a.processes,
		Version:    buildVersion().Version,
		Repaired:   repaired,
	})
}
