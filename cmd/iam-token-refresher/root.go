package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
)

// app is what the commands share of their surroundings.
type app struct {
	args      []string
	stdin     *os.File
	stdout    *answers
	stderr    *os.File
	lookupEnv func(string) (string, bool)
	processes *daemon.Processes
	overdue   chan struct{} // the end is waited for in vain
}

// env returns a variable; an empty one is none.
func (a *app) env(name string) string {
	value, _ := a.lookupEnv(name)
	return value
}

// load says what configurations see of the surroundings.
func (a *app) load() config.LoadOptions { return config.LoadOptions{LookupEnv: a.lookupEnv} }

// The groups of commands in the help.
const (
	groupDaemon = "daemon"
	groupAsk    = "ask"
	groupOther  = "other"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   program,
		Short: "Always a working Yandex Cloud IAM token at hand",
		Long: `Always has a working Yandex Cloud IAM token at hand, and gives it to whoever
needs one: a file, an environment, a Unix socket. Each new value is tried on an
API before anyone else sees it: Yandex Tracker, or another one that you name.`,
		Example: `  # A service account key, Tracker to try tokens on, a file to keep fresh:
  iam-token-refresher run --key-file /etc/iam-token-refresher/bot.json \
    --cloud-org-id bpfaidqca8vd0m5jl3fp --file /run/iam-token-refresher/bot.token

  # The same and more from a file, checked first:
  iam-token-refresher check --config /etc/iam-token-refresher/config.yaml
  iam-token-refresher run --config /etc/iam-token-refresher/config.yaml`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return usage(cmd, "no command given: \"run\" keeps tokens fresh, \"status\" shows how they are")
		},
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetArgs(a.args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(a.stdout, cmd) })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if word := a.firstWord(); cmd == root && word != "" {
			return unknownCommand(cmd, word)
		}
		return &usageError{cmd.CommandPath(), err}
	})
	root.AddGroup(&cobra.Group{ID: groupDaemon, Title: "Keep tokens fresh:"},
		&cobra.Group{ID: groupAsk, Title: "Ask the running daemon:"},
		&cobra.Group{ID: groupOther, Title: "Other:"})
	root.SetHelpCommand(a.helpCommand())
	a.add(root, groupDaemon, a.runCommand(), a.execCommand(), a.onceCommand(), a.checkCommand())
	a.add(root, groupAsk, a.statusCommand(), a.getCommand(), a.refreshCommand(), a.reloadCommand(), a.healthcheckCommand())
	a.add(root, groupOther, a.loginCommand(), a.configCommand(), a.dockerCommand(), a.completionCommand(), a.versionCommand())
	return root
}

func (a *app) add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
		// Help shows commands in the order in which they are added.
		cmd.Annotations = map[string]string{commandOrder: fmt.Sprintf("%02d", len(root.Commands()))}
		root.AddCommand(cmd)
	}
}

// firstWord is the first argument that is no flag.
func (a *app) firstWord() string {
	for _, arg := range a.args {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}

func unknownCommand(parent *cobra.Command, word string) error {
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		return usage(parent, "unknown command %q; did you mean %q?", word, near[0])
	}
	return usage(parent, "unknown command %q", word)
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "%q is one argument too many: %s takes flags only", args[0], cmd.Name())
	}
	return nil
}
