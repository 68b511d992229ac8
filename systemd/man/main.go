// Command man writes the manual pages: iam-token-refresher(1) from the
// program's help, and iam-token-refresher.yaml(5) from its reference of the
// configuration. So the pages say what the program says of itself.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	program := flag.String("program", "bin/iam-token-refresher", "the program to describe")
	dir := flag.String("dir", "dist/man", "where the pages go")
	flag.Parse()
	if err := write(*program, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(program, dir string) error {
	ask := func(args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w", cmd, err)
		}
		return string(out), nil
	}
	first, err := commandPage(ask)
	if err != nil {
		return err
	}
	reference, err := ask("config", "reference")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, page := range map[string]string{name + ".1": first, name + ".yaml.5": configPage(reference)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(page), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const name = "iam-token-refresher"

// page is a manual page in the language of man(7).
type page struct{ strings.Builder }

// title begins a page. There is no date: the same program makes the same page.
func (p *page) title(name string, section int, short string) {
	fmt.Fprintf(p, ".TH %q %d \"\" \"iam-token-refresher\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), section, text(name), text(short))
}

func (p *page) heading(title string) { fmt.Fprintf(p, ".SH %s\n", quoted(strings.ToUpper(title))) }
func (p *page) subheading(t string)  { fmt.Fprintf(p, ".SS %s\n", quoted(t)) }

// paragraphs writes text whose paragraphs are separated by blank lines; a
// paragraph that is indented is kept as it is.
func (p *page) paragraphs(s string) {
	for par := range strings.SplitSeq(strings.Trim(s, "\n"), "\n\n") {
		if strings.HasPrefix(par, "  ") {
			p.literal(par)
			continue
		}
		fmt.Fprintf(p, ".PP\n%s\n", lines(par))
	}
}

// literal writes lines as they are.
func (p *page) literal(s string) {
	fmt.Fprintf(p, ".PP\n.RS 4\n.nf\n")
	for line := range strings.SplitSeq(strings.Trim(s, "\n"), "\n") {
		fmt.Fprintln(p, lines(strings.TrimPrefix(line, "  ")))
	}
	fmt.Fprintf(p, ".fi\n.RE\n")
}

// item writes a term and what it means. The term is in man(7) already.
func (p *page) item(term, meaning string) {
	if meaning == "" {
		meaning = " "
	}
	fmt.Fprintf(p, ".TP\n%s\n%s\n", term, lines(meaning))
}

// text makes plain text of s.
func text(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

// quoted is text as an argument of a request.
func quoted(s string) string { return `"` + strings.ReplaceAll(text(s), `"`, `\(dq`) + `"` }

// lines is text that may begin a line: what begins with a dot or an apostrophe
// would be a request.
func lines(s string) string {
	all := strings.Split(inline(s), "\n")
	for i, line := range all {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			all[i] = `\&` + line
		}
	}
	return strings.Join(all, "\n")
}

// inline is text with what is between backquotes in bold.
func inline(s string) string {
	parts := strings.Split(s, "`")
	var b strings.Builder
	for i, part := range parts {
		switch {
		case i%2 == 0 || i == len(parts)-1:
			b.WriteString(text(part))
		default:
			b.WriteString(bold(part))
		}
	}
	return b.String()
}

func bold(s string) string { return `\fB` + text(s) + `\fR` }
