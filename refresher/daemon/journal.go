package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
)

// identifier is what the journal shows a line under: the kernel cuts the name
// of the process to 15 bytes.
const identifier = "iam-token-refresher"

// isJournal tells whether f is the stream that systemd made for the journal.
// The variable alone does not: children inherit it, whatever their stderr is.
func isJournal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journalHandler writes to the journal in its own protocol: a line for people,
// and each attribute as a field of its own. The journal has the time.
type journalHandler struct {
	level slog.Leveler
	send  func(message string, p journal.Priority, fields map[string]string) error
	// instead takes what the journal does not, such as while it restarts.
	instead io.Writer

	attrs  []slog.Attr // of With, with their groups in the names
	prefix string      // of open groups, with a dot at its end
}

func newJournalHandler(level slog.Leveler, instead io.Writer) *journalHandler {
	return &journalHandler{level: level, send: journal.Send, instead: instead}
}

// Enabled implements [slog.Handler].
func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// WithAttrs implements [slog.Handler].
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		next.attrs = flatten(next.attrs, h.prefix, a)
	}
	return &next
}

// WithGroup implements [slog.Handler].
func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.prefix += name + "."
	return &next
}

// Handle implements [slog.Handler].
func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := append([]slog.Attr(nil), h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.prefix, a)
		return true
	})
	fields := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	var line, below strings.Builder
	line.WriteString(r.Message)
	for _, a := range attrs {
		text := a.Value.String()
		fields[fieldName(a.Key)] = text
		switch {
		case strings.Contains(text, "\n"): // a text laid out in lines, such as of mistakes in the configuration
			fmt.Fprintf(&below, "\n%s: %s", a.Key, text)
		case text == "" || strings.ContainsAny(text, " \"="):
			fmt.Fprintf(&line, " %s=%s", a.Key, strconv.Quote(text))
		default:
			fmt.Fprintf(&line, " %s=%s", a.Key, text)
		}
	}
	message, p := line.String()+below.String(), priority(r.Level)
	if h.send(message, p, fields) == nil {
		return nil
	}
	// On its stream the journal takes a line's priority in front of it.
	_, err := fmt.Fprintf(h.instead, "<%d>%s\n", p, strings.ReplaceAll(message, "\n", fmt.Sprintf("\n<%d>", p)))
	return err
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// flatten appends a, and instead of a group what is in it.
func flatten(to []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return to
	case v.Kind() != slog.KindGroup:
		return append(to, slog.Attr{Key: prefix + a.Key, Value: v})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, inner := range v.Group() {
		to = flatten(to, prefix, inner)
	}
	return to
}

// fieldName makes a name that the journal takes: capital letters, digits and
// underscores, beginning with a letter, of 64 bytes at most, and none of those
// that mean something to it.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	taken := name == "" || name[0] < 'A' || name[0] > 'Z'
	switch name {
	case "MESSAGE", "MESSAGE_ID", "PRIORITY", "ERRNO", "TID", "UNIT", "USER_UNIT", "DOCUMENTATION", "INVOCATION_ID", "USER_INVOCATION_ID":
		taken = true
	}
	for _, start := range []string{"SYSLOG_", "CODE_", "COREDUMP_", "OBJECT_"} {
		taken = taken || strings.HasPrefix(name, start)
	}
	if taken {
		name = "ITR_" + name
	}
	return name[:min(len(name), 64)]
}
