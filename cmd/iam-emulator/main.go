// Command iam-emulator is a stand-in for Yandex Cloud's IAM and what surrounds
// it, for trying and testing programs that need IAM tokens.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Exit codes, the same as the daemon's.
const (
	exitFailed = 1
	exitUsage  = 78
)

func main() {
	os.Exit(run())
}

// gcPercent lets garbage lie: a stand-in is to cost those who are measured
// beside it as little time as it can, and has memory enough.
const gcPercent = 400

func run() int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cmd := newCommand()
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "iam-emulator:", err)
		return exitCode(err)
	}
	return 0
}
