package main

import (
	"io"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:                        "config",
		SuggestionsMinimumDistance: 2,
		Short:                      "Print what a configuration may hold",
		Long:                       "Prints what a configuration may hold, for people and for editors.",
		Example: `  # In the first line of a config.yaml, for editors with a YAML language server:
  #   # yaml-language-server: $schema=./schema.json
  iam-token-refresher config schema > schema.json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return usage(cmd, "say what to print: \"schema\" or \"reference\"")
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "schema",
			Short:   "Print the JSON schema of configuration files",
			Example: "  iam-token-refresher config schema > schema.json",
			Args:    noArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := a.stdout.Write(config.Schema(daemon.Kinds()))
				return err
			},
		},
		&cobra.Command{
			Use:     "reference",
			Short:   "Print the reference of configuration files in Markdown",
			Example: "  iam-token-refresher config reference | less",
			Args:    noArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := io.WriteString(a.stdout, config.Reference(daemon.Kinds()))
				return err
			},
		},
	)
	return cmd
}
