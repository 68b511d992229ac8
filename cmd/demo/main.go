// Command demo shows the main job of iam-token-refresher on a stand-in cloud:
// tokens that live 20 s are minted, proven, published and renewed while real
// readers look on; then IAM goes down, and a token is revoked. It runs the two
// programs it is given as processes, in a temporary directory and on loopback,
// and ends by itself within a minute: 0 when all was as it should be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 78
	exitInterrupted = 130
)

func main() { os.Exit(command(os.Args[1:])) }

// command carries out the command line and returns the exit code.
func command(args []string) int {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&o.refresher, "refresher", "bin/iam-token-refresher", "the `program` to show")
	flags.StringVar(&o.emulator, "emulator", "bin/iam-emulator", "the `program` that stands in for the cloud")
	flags.IntVar(&o.renewals, "renewals", 3, "how many renewals to watch before the trouble begins")
	lines := flags.Bool("lines", false, "plain lines, also on a terminal")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		return exitUsage
	case flags.NArg() > 0 || o.renewals < 1 || o.renewals > maxRenewals:
		fmt.Fprintf(os.Stderr, "demo: takes flags only, and 1 to %d renewals\n", maxRenewals)
		return exitUsage
	}
	// A broken pipe and a closed terminal end the demo like Ctrl-C does, and so
	// does Ctrl-Z: the cloud's clock would not stop.
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGTSTP)
	defer stop()
	if !*lines && term.IsTerminal(int(os.Stdout.Fd())) && terminalDraws(os.Getenv("TERM")) {
		return run(ctx, o, newScreen(os.Stdout, paletteFor(os.Getenv("NO_COLOR"))))
	}
	return run(ctx, o, newLines(os.Stdout))
}

// terminalDraws tells whether a terminal of this kind knows escape codes.
func terminalDraws(kind string) bool { return kind != "" && kind != "dumb" }
