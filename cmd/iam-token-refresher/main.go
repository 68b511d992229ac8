// Command iam-token-refresher always has a working Yandex Cloud IAM token at
// hand, and gives it to whoever needs one.
package main

import (
	"context"
	"io"
	"log"
	"os"
	_ "time/tzdata" // schedules name zones, and images have no zone files

	"iam-token-refresher/refresher/daemon"
)

func main() {
	// What the standard library logs is for a daemon's log alone; a command says
	// itself what went wrong.
	log.SetOutput(io.Discard)
	processes := daemon.Harden() // whatever the command: most have the token in memory
	os.Exit(run(context.Background(), processes, arguments(os.Args), os.Stdout, os.Stderr))
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, processes *daemon.Processes, args []string, stdout, stderr *os.File) int {
	a := &app{args: args, processes: processes, stdin: os.Stdin, stdout: &answers{file: stdout}, stderr: stderr, lookupEnv: os.LookupEnv, overdue: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() { ended <- a.stdout.outcome(a.root().ExecuteContext(ctx)) }()
	var err error
	select {
	case err = <-ended:
	case <-a.overdue:
		err = errHung
		a.endSoon(nil)
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		complain(stderr, err)
	}()
	select {
	case <-told:
	case <-a.overdue:
	}
	return exitCode(err)
}
