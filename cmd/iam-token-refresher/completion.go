package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a shell completion script",
		Long: `Prints a script that makes a shell complete commands, flags, and the names of the
tokens of the running daemon.`,
		Example: `  iam-token-refresher completion bash > /etc/bash_completion.d/iam-token-refresher
  iam-token-refresher completion zsh > "${fpath[1]}/_iam-token-refresher"
  iam-token-refresher completion fish > ~/.config/fish/completions/iam-token-refresher.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
	}
	scripts := map[string]func(root *cobra.Command, w io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  (*cobra.Command).GenZshCompletion,
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || scripts[args[0]] == nil {
			return usage(cmd, "for which shell? Say bash, zsh or fish")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return scripts[args[0]](cmd.Root(), a.stdout) }
	return cmd
}

// completeTokens offers the names of tokens that the daemon has for us. What
// goes wrong is nothing to write between a person's words.
func (a *app) completeTokens(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const only = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, only
	}
	w := &whereabouts{socket: &textFlag{}, config: &textFlag{}}
	for name, to := range map[string]*textFlag{"socket": w.socket, "config": w.config} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			to.value, to.given = f.Value.String(), true
		}
	}
	p, err := w.find(cmd, a)
	if err != nil || len(p.sockets) == 0 {
		return nil, only
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	doc, _, err := newSurvey(p).take(ctx)
	if err != nil {
		return nil, only
	}
	names := make([]string, len(doc.Tokens))
	for i, t := range doc.Tokens {
		names[i] = t.Name + "\t" + string(t.State)
	}
	return names, only
}
