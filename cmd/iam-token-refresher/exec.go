package main

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/sink"
)

// Where nothing else is said, the program finds the value where Terraform's
// provider and yc look for it.
const (
	defaultVariable = "YC_TOKEN"
	defaultTemplate = "{{.Value}}"
)

// codeTerminated is a shell's exit code for a program that SIGTERM has ended.
const codeTerminated = 128 + int(syscall.SIGTERM)

func (a *app) execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec [flags] -- PROGRAM [ARGUMENT...]",
		Short: "Run a program with a token in its environment",
		Long: `Starts a program once the token is proven, with the value in its environment, and
goes on as "run" does until it ends, with its exit code (128 and the number of a
signal). The program is restarted when its value was revoked or is about to
expire and there is another. SIGTERM asks it to end (--stop-signal) and kills it
after --stop-timeout; all other signals are passed on. Only warnings are logged
unless --log-level says otherwise.`,
		Example: `  iam-token-refresher exec --key-file /etc/iam-token-refresher/bot.json \
    --cloud-org-id bpfaidqca8vd0m5jl3fp -- terraform apply

  # Another variable, restarts for each new value, and a longer farewell:
  iam-token-refresher exec --metadata --no-probe --env 'AUTH=Bearer {{.Value}}' \
    --restart-on version --stop-timeout 30s -- ./bot --verbose

  # What the file says in exec, with another program:
  iam-token-refresher exec --config config.yaml -- env`,
	}
	var f execFlags
	cmd.Flags().StringArrayVar(&f.env, "env", nil, "`NAME=TEMPLATE` for the program, may be repeated (default "+defaultVariable+"="+defaultTemplate+")")
	f.add(cmd, &f.onRenew, "on-renew", "restart, signal:NAME or none (default restart)")
	f.add(cmd, &f.restartOn, "restart-on", "need: its value is bad or near its end; version: always (default need)")
	f.add(cmd, &f.stopSignal, "stop-signal", "asks the program to end (default TERM)")
	cmd.Flags().DurationVar(&f.stopTimeout, "stop-timeout", 0, "how long it may take to end (default 5s)")
	f.add(cmd, &f.onExit, "on-exit", "exit, or restart after a failure (default exit)")
	s := addSettings(cmd)
	cmd.Flags().SetInterspersed(false) // what follows the program is its own
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := s.origin(cmd, a)
		if err != nil {
			return err
		}
		if from.path == "" && len(args) == 0 {
			return usage(cmd, "no program given: name it after --")
		}
		if from.opt.Exec, err = f.changes(cmd, args, from.path == ""); err != nil {
			return err
		}
		if from.path == "" && from.values["log-level"] == "" && from.values["ITR_LOG_LEVEL"] == "" {
			from.values["log-level"] = "warn" // the terminal is the program's
		}
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		defer signal.Stop(signals)
		err = a.run(cmd.Context(), from, signals, true)
		if err == nil { // it was told to end before there was anything to run
			return &sink.ExitError{Code: codeTerminated, Asked: true}
		}
		return err
	}
	return cmd
}

// execFlags are what the command line says of the program.
type execFlags struct {
	env                                    []string
	onRenew, restartOn, stopSignal, onExit string
	stopTimeout                            time.Duration
}

func (f *execFlags) add(cmd *cobra.Command, to *string, name, help string) {
	flag := cmd.Flags().VarPF(&wordFlag{to}, name, "", help)
	flag.DefValue = ""
}

// wordFlag is a flag of one word; it implements pflag.Value.
type wordFlag struct{ to *string }

func (w *wordFlag) String() string { return *w.to }

// Type implements pflag.Value.
func (*wordFlag) Type() string { return "word" }

// Set implements pflag.Value.
func (w *wordFlag) Set(value string) error { *w.to = value; return nil }

// changes are what the command line changes of what a file says, or of the
// defaults, where alone is set.
func (f *execFlags) changes(cmd *cobra.Command, args []string, alone bool) (func(*config.Exec), error) {
	var onRenew config.Renewal
	var stopSignal config.Signal
	env := map[string]string{}
	if f.onRenew != "" {
		if err := onRenew.UnmarshalText([]byte(f.onRenew)); err != nil {
			return nil, usage(cmd, "--on-renew: %w", err)
		}
	}
	if f.stopSignal != "" {
		if err := stopSignal.UnmarshalText([]byte(f.stopSignal)); err != nil {
			return nil, usage(cmd, "--stop-signal: %w", err)
		}
	}
	for _, one := range []struct{ flag, value, a, b string }{
		{"--restart-on", f.restartOn, "need", "version"}, {"--on-exit", f.onExit, "exit", "restart"},
	} {
		if one.value != "" && one.value != one.a && one.value != one.b {
			return nil, usage(cmd, "%s: %q is not one of %s, %s", one.flag, one.value, one.a, one.b)
		}
	}
	if alone && len(f.env) == 0 {
		env[defaultVariable] = defaultTemplate
	}
	for _, assignment := range f.env {
		name, text, ok := strings.Cut(assignment, "=")
		if !ok || name == "" {
			return nil, usage(cmd, "--env: write NAME=TEMPLATE, for instance '%s=%s'", defaultVariable, defaultTemplate)
		}
		env[name] = text
	}
	return func(e *config.Exec) {
		if len(args) > 0 {
			e.Command = args
		}
		if len(env) > 0 {
			e.Env = env
		}
		if f.onRenew != "" {
			e.OnRenew = onRenew
		}
		if f.stopSignal != "" {
			e.StopSignal = stopSignal
		}
		if f.restartOn != "" {
			e.RestartOn = f.restartOn
		}
		if f.onExit != "" {
			e.OnExit = f.onExit
		}
		if cmd.Flags().Changed("stop-timeout") {
			e.StopTimeout = f.stopTimeout
		}
	}, nil
}
