// Command iam-emulator is a stand-in for Yandex Cloud's IAM and what surrounds
// it, for trying and testing programs that need IAM tokens.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cmd := newCommand()
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "iam-emulator:", err)
		return exitCode(err)
	}
	return 0
}
