package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroup is the annotation of a flag that names the heading it stands under
// in the help; flags without one come first.
const flagGroup = "group"

// commandOrder is the annotation of a command that says where it stands in the
// help; those without one come last.
const commandOrder = "order"

// helpCommand is cobra's, but for what it does about a command that is not there.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about any command",
		Long:    "Shows what --help of a command shows.",
		Example: "  iam-token-refresher help run",
		GroupID: groupOther,
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) (words []cobra.Completion, _ cobra.ShellCompDirective) {
			of, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range of.Commands() {
				if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), word) {
					words = append(words, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(of, args[len(args)-len(rest)])
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// writeHelp writes all that --help shows.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	out := bufio.NewWriter(w)
	defer func() { _ = out.Flush() }()
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(out, "%s\n\nUsage:\n  %s\n", text, useLine(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n%s\n", cmd.Example)
	}
	writeCommands(out, cmd)
	for _, g := range groupsOf(cmd) {
		fmt.Fprintf(out, "\n%s\n%s", g.title, g.flags.FlagUsages())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\n\"%s COMMAND --help\" says more about a command.\n", cmd.CommandPath())
	}
}

func useLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	if strings.Contains(cmd.UseLine(), "[flags] ") { // before what comes last
		return cmd.UseLine()
	}
	return strings.TrimSuffix(cmd.UseLine(), " [flags]") + " [flags]"
}

func writeCommands(out io.Writer, cmd *cobra.Command) {
	groups := cmd.Groups()
	if len(groups) == 0 {
		groups = []*cobra.Group{{Title: "Commands:"}}
	}
	for _, group := range groups {
		head := "\n" + group.Title + "\n"
		for _, sub := range inOrder(cmd.Commands()) {
			if sub.GroupID != group.ID || sub.Hidden {
				continue
			}
			fmt.Fprintf(out, "%s  %-17s %s\n", head, sub.Name(), sub.Short)
			head = ""
		}
	}
}

func inOrder(commands []*cobra.Command) []*cobra.Command {
	key := func(c *cobra.Command) string { return cmp.Or(c.Annotations[commandOrder], "~"+c.Name()) }
	return slices.SortedFunc(slices.Values(commands), func(a, b *cobra.Command) int { return cmp.Compare(key(a), key(b)) })
}

// flagsUnder are flags with their heading.
type flagsUnder struct {
	title string
	flags *pflag.FlagSet
}

// groupsOf sorts a command's flags under their headings, in the order in which
// they were added.
func groupsOf(cmd *cobra.Command) []flagsUnder {
	all := cmd.Flags()
	all.SortFlags = false
	groups := []flagsUnder{{title: "Flags:"}}
	all.VisitAll(func(f *pflag.Flag) {
		title := groups[0].title
		if named := f.Annotations[flagGroup]; len(named) > 0 {
			title = named[0]
		}
		i := 0
		for i < len(groups) && groups[i].title != title {
			i++
		}
		if i == len(groups) {
			groups = append(groups, flagsUnder{title: title})
		}
		if groups[i].flags == nil {
			groups[i].flags = pflag.NewFlagSet(title, pflag.ContinueOnError)
			groups[i].flags.SortFlags = false
		}
		groups[i].flags.AddFlag(f)
	})
	if groups[0].flags == nil {
		groups = groups[1:]
	}
	return groups
}
