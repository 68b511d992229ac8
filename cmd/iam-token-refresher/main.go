// Command iam-token-refresher always has a working Yandex Cloud IAM token at
// hand, and gives it to whoever needs one.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"time"
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
	a := &app{args: args, processes: processes, stdin: os.Stdin, stdout: &answers{file: stdout}, stderr: stderr, lookupEnv: os.LookupEnv}
	err := a.stdout.outcome(a.root().ExecuteContext(ctx))
	told := make(chan struct{})
	go func() {
		defer close(told)
		complain(stderr, err)
	}()
	var enough <-chan time.Time
	if errors.Is(err, errAtOnce) {
		enough = time.After(time.Second)
	}
	select {
	case <-told:
	case <-enough:
	}
	return exitCode(err)
}
