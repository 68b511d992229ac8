package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/redact"
)

// entry is what the journal was given.
type entry struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

func fakeJournal(level slog.Level) (h *journalHandler, got *[]entry) {
	got = new([]entry)
	h = newJournalHandler(level, nil)
	h.send = func(message string, p journal.Priority, fields map[string]string) error {
		*got = append(*got, entry{message, p, fields})
		return nil
	}
	return h, got
}

func TestAJournalEntryHasALineAPriorityAndFields(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log      func(*slog.Logger)
		message  string
		priority journal.Priority
		fields   string
	}{
		"attributes": {
			func(l *slog.Logger) {
				l.With("token", "bot").Info("published", "version", 3, "reason", "it is due", "in", time.Minute)
			},
			`published token=bot version=3 reason="it is due" in=1m0s`, journal.PriInfo,
			"map[IN:1m0s REASON:it is due TOKEN:bot VERSION:3]",
		},
		"groups": {
			func(l *slog.Logger) {
				l.WithGroup("a").With("b", 1).WithGroup("").Warn("w", slog.Group("c", "d", 2), slog.Group("", "e", 3))
			},
			"w a.b=1 a.c.d=2 a.e=3", journal.PriWarning, "map[A_B:1 A_C_D:2 A_E:3]",
		},
		"names that the journal has a use for": {
			func(l *slog.Logger) {
				l.Debug("m", "message", "x", "priority", 1, "code.line", 7, "_pid", 2, "9", 3, "größe", 4)
			},
			"m message=x priority=1 code.line=7 _pid=2 9=3 größe=4", journal.PriDebug,
			"map[GR__E:4 ITR_9:3 ITR_CODE_LINE:7 ITR_MESSAGE:x ITR_PRIORITY:1 ITR__PID:2]",
		},
		"an error over several lines": {
			func(l *slog.Logger) { l.Error("refused", "error", errors.New("f:1: wrong\n  ^"), "n", 1) },
			"refused n=1\nerror: f:1: wrong\n  ^", journal.PriErr, "map[ERROR:f:1: wrong\n  ^ N:1]",
		},
		"nothing but words": {func(l *slog.Logger) { l.Info("stopping", slog.Attr{}) }, "stopping", journal.PriInfo, "map[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, got := fakeJournal(slog.LevelDebug)
			c.log(slog.New(h))
			if len(*got) != 1 {
				t.Fatalf("%d entries", len(*got))
			}
			e := (*got)[0]
			if e.fields["SYSLOG_IDENTIFIER"] != "iam-token-refresher" {
				t.Errorf("it comes from %q", e.fields["SYSLOG_IDENTIFIER"])
			}
			fields := maps.Clone(e.fields)
			delete(fields, "SYSLOG_IDENTIFIER")
			if e.message != c.message || e.priority != c.priority || fmt.Sprint(fields) != c.fields {
				t.Errorf("got %q %d %v", e.message, e.priority, fields)
			}
		})
	}
}

func TestTheJournalGetsNothingBelowItsLevelAndNoSecrets(t *testing.T) {
	t.Parallel()
	h, got := fakeJournal(slog.LevelInfo)
	var filter redact.Filter
	secret := strings.Repeat("secret", 10)
	filter.Remember("bot", refresher.NewValue(secret))
	log := slog.New(redact.NewHandler(h, &filter))
	log.Debug("nothing")
	log.Info("value "+secret, "a", secret, "error", errors.New(secret))
	if len(*got) != 1 || strings.Contains(fmt.Sprint(*got), secret) || (*got)[0].fields["A"] != redact.Marker {
		t.Errorf("the journal has %v", *got)
	}
}

func TestWhatTheJournalDoesNotTakeGoesToItsStream(t *testing.T) {
	t.Parallel()
	var stream bytes.Buffer
	h := newJournalHandler(slog.LevelInfo, &stream)
	h.send = func(string, journal.Priority, map[string]string) error { return errors.New("away") }
	slog.New(h).Warn("hot", "error", "a\nb")
	if got := stream.String(); got != "<4>hot\n<4>error: a\n<4>b\n" {
		t.Errorf("got %q", got)
	}
}

func TestTheJournalIsKnownByItsStream(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/f")
	check(t, err)
	defer f.Close()
	info, err := f.Stat()
	check(t, err)
	st := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   true,
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, // a variable that was inherited
		"":                                     false,
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if isJournal(f) != want {
			t.Errorf("JOURNAL_STREAM=%s: %t", stream, !want)
		}
	}
}
