package main

import (
	"fmt"
	"strings"
)

// configPage puts the reference of the configuration, which is Markdown of
// headings, paragraphs and tables, into a manual page.
func configPage(reference string) string {
	var p page
	p.title(name+".yaml", 5, "configuration of iam-token-refresher")
	p.heading("Description")
	p.paragraphs("A strict YAML file: a mistake is shown with its line. `${VARIABLES}` are expanded in paths. " +
		"Durations are `90s`, `15m`, `2h30m`; file modes are quoted octal numbers, `\"0640\"`. " +
		"It holds paths to secrets, and no secrets.")
	p.heading("Example")
	p.literal(example)
	for line := range strings.Lines(reference) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "| ---"):
		case strings.HasPrefix(line, "#### "):
			p.subheading(strings.ReplaceAll(line[5:], "`", ""))
		case strings.HasPrefix(line, "### "):
			p.heading(strings.ReplaceAll(line[4:], "`", ""))
		case strings.HasPrefix(line, "|"):
			p.row(cells(line))
		default:
			fmt.Fprintf(&p, ".PP\n%s\n", lines(line))
		}
	}
	p.heading("See also")
	fmt.Fprintf(&p, ".PP\n%s(1)\n", bold(name))
	return p.String()
}

const example = `  tokens:
    - name: bot
      source: {service_account_key: {file: /etc/iam-token-refresher/bot.json}}
      probe: {tracker: {cloud_org_id: bpfaidqca8vd0m5jl3fp}}
      sinks:
        - file: {path: /run/iam-token-refresher/bot.token, mode: "0640"}
        - socket: {path: /run/iam-token-refresher.sock}
  state_dir: /run/iam-token-refresher-state`

// cells are those of a line of a table.
func cells(line string) []string {
	const bar = "\x00" // stands for an escaped one
	line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, bar)
	all := strings.Split(line, "|")
	for i, cell := range all {
		all[i] = strings.TrimSpace(strings.ReplaceAll(cell, bar, "|"))
	}
	return all
}

// row writes a line of a table: of an option, or of a flag.
func (p *page) row(c []string) {
	if len(c) != 4 || c[0] == "key" || c[0] == "flag" {
		return
	}
	if strings.HasPrefix(c[0], "`--") {
		p.item(inline(c[0]+", "+c[1]), c[3]+" ("+c[2]+")")
		return
	}
	term := inline(c[0]) + " (" + inline(c[1])
	switch c[2] {
	case "":
	case "**required**":
		term += "; required"
	default:
		term += "; default " + inline(c[2])
	}
	p.item(term+")", c[3])
}
