package main

import (
	"fmt"
	"regexp"
	"strings"
)

// help is what --help shows of a command, in its parts.
type help struct {
	long, usage string
	parts       []part // examples, commands and flags under their headings
}

type part struct {
	title string
	lines []string
}

// parseHelp takes a help text apart. After the line "Usage:", what begins at
// the margin and ends with a colon is a heading.
func parseHelp(s string) (help, error) {
	long, rest, ok := strings.Cut(s, "\n\nUsage:\n")
	if !ok {
		return help{}, fmt.Errorf("a help text without a line \"Usage:\": %q", s)
	}
	h := help{long: long}
	usage, rest, _ := strings.Cut(rest, "\n")
	h.usage = strings.TrimSpace(usage)
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line != "" && line[0] != ' ' && strings.HasSuffix(line, ":"):
			h.parts = append(h.parts, part{title: strings.TrimSuffix(line, ":")})
		case line != "" && line[0] != ' ':
			// The hint at more help: here is all of it.
		case len(h.parts) > 0:
			last := &h.parts[len(h.parts)-1]
			last.lines = append(last.lines, line)
		}
	}
	return h, nil
}

var (
	commandLine = regexp.MustCompile(`^  ([a-z][a-z-]*) +(\S.*)$`)
	flagLine    = regexp.MustCompile(`^ +((?:-\w, )?--[a-z-]+)( \S+)? {2,}(\S.*)$`)
)

// commands are the names under the headings of commands.
func (h help) commands() (names []string) {
	for _, part := range h.parts {
		if part.title == "Examples" {
			continue
		}
		for _, line := range part.lines {
			if m := commandLine.FindStringSubmatch(line); m != nil && m[1] != "help" {
				names = append(names, m[1])
			}
		}
	}
	return names
}

// commandPage describes the program and each of its commands.
func commandPage(ask func(...string) (string, error)) (string, error) {
	about := func(args ...string) (help, error) {
		s, err := ask(append(args, "--help")...)
		if err != nil {
			return help{}, err
		}
		return parseHelp(s)
	}
	root, err := about()
	if err != nil {
		return "", err
	}
	var synopsis []string
	var body page
	for _, c := range root.commands() {
		h, err := about(c)
		if err != nil {
			return "", err
		}
		names := h.commands()
		if len(names) == 0 {
			synopsis = append(synopsis, h.usage)
		}
		body.command(c, h)
		for _, sub := range names {
			h, err := about(c, sub)
			if err != nil {
				return "", err
			}
			synopsis = append(synopsis, h.usage)
			body.command(c+" "+sub, h)
		}
	}
	var p page
	p.title(name, 1, "always a working Yandex Cloud IAM token at hand")
	p.heading("Synopsis")
	for i, usage := range synopsis {
		if i > 0 {
			p.WriteString(".br\n")
		}
		command, rest, _ := strings.Cut(usage, " ")
		fmt.Fprintf(&p, "%s %s\n", bold(command), text(rest))
	}
	p.heading("Description")
	p.paragraphs(root.long)
	p.heading("Commands")
	p.WriteString(body.String())
	p.heading("Examples")
	for _, part := range root.parts {
		if part.title == "Examples" {
			p.literal(strings.Join(part.lines, "\n"))
		}
	}
	p.surroundings()
	return p.String(), nil
}

// command describes one command.
func (p *page) command(words string, h help) {
	p.subheading(words)
	fmt.Fprintf(p, ".PP\n%s\n", bold(h.usage))
	p.paragraphs(h.long)
	for _, part := range h.parts {
		switch {
		case part.title == "Examples":
			p.literal(strings.Join(part.lines, "\n"))
			continue
		case len(h.commands()) > 0:
			continue // they follow
		case part.title != "Flags":
			fmt.Fprintf(p, ".PP\n%s\n", lines(part.title+":"))
		}
		for _, line := range part.lines {
			if m := flagLine.FindStringSubmatch(line); m != nil {
				term := bold(m[1])
				if m[2] != "" {
					term += ` \fI` + text(strings.TrimSpace(m[2])) + `\fR`
				}
				p.item(term, m[3])
			}
		}
	}
}

// surroundings are what no single command's help can say.
func (p *page) surroundings() {
	p.heading("Exit status")
	p.item(bold("0"), "Done.")
	p.item(bold("1"), "Failed; the message says what, and what to do.")
	p.item(bold("78"), "Usage or configuration: trying again does not help.")
	p.heading("Files")
	p.item(`\fI/etc/iam-token-refresher/config.yaml\fR`, "The configuration.")
	p.item(`\fI/run/iam-token-refresher.sock\fR`, "The socket, which `iam-token-refresher.socket` holds.")
	p.item(`\fI/run/iam-token-refresher/\fR`, "Where the service may write tokens.")
	p.item(`\fI/run/iam-token-refresher-state/\fR, \fI/var/lib/iam-token-refresher/\fR`, "Where the service may keep them over a restart.")
	p.item(`\fI/usr/share/doc/iam-token-refresher/examples/\fR`, "Drop-ins for credentials and groups, and a service that gets a token.")
	p.heading("See also")
	fmt.Fprintf(p, ".PP\n%s(5), %s(1), %s(1), %s(5)\n", bold(name+".yaml"), bold("systemctl"), bold("journalctl"), bold("systemd.exec"))
}
