package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/status"
)

// askTimeout is how long the daemon may take to answer from what it knows.
const askTimeout = 10 * time.Second

func (a *app) statusCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the tokens are",
		Long: `Shows the tokens of the running daemon that you may read, and below each what is
wrong with it. The exit code is 0 when the daemon answered, whatever it said;
"healthcheck" is for exit codes.`,
		Example: `  iam-token-refresher status
  iam-token-refresher status --watch --config /etc/iam-token-refresher/config.yaml
  iam-token-refresher status -o json | jq -r '.tokens[] | select(.state != "fresh").name'`,
		Args: noArgs,
	}
	w := addWhereabouts(cmd)
	output := addOutput(cmd, "table", asJSON)
	cmd.Flags().BoolVarP(&follow, "watch", "w", false, "go on showing; in a pipe a new table for each change")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := w.ask(cmd, a)
		if err != nil {
			return err
		}
		if len(p.sockets) == 0 {
			return p.noSocket()
		}
		s := newSurvey(p)
		if follow {
			return a.watch(cmd.Context(), s, output.json())
		}
		doc, missing, err := s.take(cmd.Context())
		if err != nil {
			return err
		}
		for _, note := range missing.words() {
			say(a.stderr, note)
		}
		return a.show(a.stdout, doc, output.json(), a.screenOf(a.stdout.file))
	}
	return cmd
}

// survey collects the tokens of all sockets of a daemon.
type survey struct {
	place
	clients []*client
}

func newSurvey(p place) *survey {
	s := &survey{place: p}
	for _, path := range p.sockets {
		s.clients = append(s.clients, newClient(path, p.from))
	}
	return s
}

// renewed is s, or the survey of the sockets that the daemon has since a reload.
func (s *survey) renewed() *survey {
	if s.again == nil {
		return s
	}
	p, err := s.again()
	if err != nil || len(p.sockets) == 0 || slices.Equal(p.sockets, s.sockets) {
		return s
	}
	return newSurvey(p)
}

// gaps are what a survey could not see.
type gaps struct {
	broken []error  // sockets that did not answer
	unseen []string // tokens of the configuration that are on none that did
}

// words are for people.
func (g gaps) words() (list []string) {
	for _, err := range g.broken {
		list = append(list, err.Error())
	}
	if len(g.unseen) > 0 {
		list = append(list, "not shown, because no socket that you may read has it: "+strings.Join(g.unseen, ", "))
	}
	return list
}

// take asks every socket. The error is that of the first one when none answered.
func (s *survey) take(ctx context.Context) (doc status.Document, missing gaps, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	seen := map[string]bool{}
	doc.Tokens = []status.Token{}
	for _, c := range s.clients {
		one, err := c.list(ctx)
		if err != nil {
			missing.broken = append(missing.broken, err)
			continue
		}
		if doc.Version == "" {
			doc.At, doc.Version = one.At, one.Version
		}
		for _, t := range one.Tokens {
			if !seen[t.Name] {
				seen[t.Name] = true
				doc.Tokens = append(doc.Tokens, t)
			}
		}
	}
	if len(missing.broken) == len(s.clients) {
		return doc, gaps{}, missing.broken[0]
	}
	if doc.At.IsZero() {
		doc.At = time.Now().UTC().Truncate(time.Second)
	}
	missing.unseen = s.arrange(doc.Tokens)
	return doc, missing, nil
}

// arrange puts tokens into the order of the configuration, and returns those
// that are missing.
func (s *survey) arrange(tokens []status.Token) (unseen []string) {
	if s.config == nil || s.mistakes != nil {
		return nil
	}
	order := map[string]int{}
	for i, t := range s.config.Tokens {
		order[t.Name] = i
		if !slices.ContainsFunc(tokens, func(shown status.Token) bool { return shown.Name == t.Name }) {
			unseen = append(unseen, t.Name)
		}
	}
	slices.SortStableFunc(tokens, func(a, b status.Token) int { return order[a.Name] - order[b.Name] })
	return unseen
}

// pipeWidth is room for everything: nothing is cut in a pipe.
const pipeWidth = 1 << 10

// show writes a document as a table or JSON.
func (a *app) show(w io.Writer, doc status.Document, asJSON bool, s screen) error {
	if asJSON {
		return writeJSON(w, doc)
	}
	if len(doc.Tokens) == 0 {
		_, err := fmt.Fprintln(w, "no tokens that you may read: ask as root, or as a user whom the socket's `allow` names")
		return err
	}
	width := s.width
	if !s.terminal {
		width = pipeWidth
	}
	return status.Table(w, doc, doc.At, status.TableOptions{Color: s.color, Width: width})
}
