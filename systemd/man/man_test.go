package main

import (
	"errors"
	"strings"
	"testing"
)

// program answers like one with two commands.
func program(args ...string) (string, error) {
	switch strings.Join(args, " ") {
	case "--help":
		return "Does it.\n\nUsage:\n  x COMMAND\n\nExamples:\n  x run\n\nMain:\n  run          Run\n  help         Help\n\nOther:\n  config       Print\n\n\"x COMMAND --help\" says more.\n", nil
	case "run --help":
		return "Runs.\n.dot\n\nUsage:\n  x run NAME [flags]\n\nExamples:\n  x run\n\n  # again:\n  x run \\\n    --once\n\nFlags:\n  -h, --help        help for run\n      --file path   a `file`\n\nMore (than that):\n      --once   one\n", nil
	case "config --help":
		return "Prints.\n\nUsage:\n  x config COMMAND\n\nCommands:\n  schema       Print it\n", nil
	case "config schema --help":
		return "Print it.\n\nUsage:\n  x config schema [flags]\n", nil
	}
	return "", errors.New("no such command")
}

func TestThePageHoldsAllThatTheHelpSays(t *testing.T) {
	t.Parallel()
	page, err := commandPage(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".SH \"SYNOPSIS\"\n\\fBx\\fR run NAME [flags]\n.br\n\\fBx\\fR config schema [flags]\n",
		".SS \"run\"\n", ".SS \"config schema\"\n",
		"Runs.\n\\&.dot\n", "x run \\e\n  \\-\\-once\n",
		".TP\n\\fB\\-h, \\-\\-help\\fR\nhelp for run\n",
		".TP\n\\fB\\-\\-file\\fR \\fIpath\\fR\na \\fBfile\\fR\n",
		"More (than that):\n.TP\n\\fB\\-\\-once\\fR\none\n",
		".SH \"EXIT STATUS\"\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "says more") || strings.Contains(page, `.SS "help"`) {
		t.Errorf("what has no place in a manual is there:\n%s", page)
	}
}

func TestAHelpThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := commandPage(func(...string) (string, error) { return "help yourself\n", nil }); err == nil {
		t.Error("it is none")
	}
}

func TestTheReferenceBecomesItems(t *testing.T) {
	t.Parallel()
	page := configPage("### The `file`\n\nIt says:\n\n| key | value | default | |\n| --- | --- | --- | --- |\n" +
		"| `a.b` | text | `x` | one \\| two |\n| `c` | a list | **required** | |\n\n#### `kind`\n\nNo options.\n\n" +
		"| flag | variable | stands for | |\n| --- | --- | --- | --- |\n| `--a-b` | `ITR_A_B` | `a.b` | one |\n")
	for _, want := range []string{
		".SH \"THE FILE\"\n.PP\nIt says:\n.TP\n\\fBa.b\\fR (text; default \\fBx\\fR)\none | two\n.TP\n\\fBc\\fR (a list; required)\n",
		".SS \"kind\"\n.PP\nNo options.\n.TP\n\\fB\\-\\-a\\-b\\fR, \\fBITR_A_B\\fR\none (\\fBa.b\\fR)\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
}
