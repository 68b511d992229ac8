package daemon

import (
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/redact"
)

// logging is the process' log. Its level can be changed while it is in use.
type logging struct {
	*slog.Logger
	level slog.LevelVar
}

// newLogging writes to f: coloured text on a terminal, records where it is the
// journal's, and JSON elsewhere, unless o says otherwise. Everything goes
// through the filter, and nothing waits long for who reads it.
func newLogging(f *os.File, o config.LogOptions, filter *redact.Filter) *logging {
	l := &logging{}
	l.setLevel(o.Level)
	terminal := isTerminal(f)
	var h slog.Handler
	if o.Format != "json" && isJournal(f) {
		h = newJournalHandler(&l.level, f)
	} else if o.Format == "text" || o.Format != "json" && terminal {
		h = tint.NewTextHandler(f, &tint.Options{
			Level: &l.level, TimeFormat: time.DateTime,
			NoColor: !terminal || os.Getenv("NO_COLOR") != "",
		})
	} else {
		h = slog.NewJSONHandler(f, &slog.HandlerOptions{Level: &l.level})
	}
	l.Logger = slog.New(redact.NewHandler(newOutlet(h), filter))
	return l
}

// takeLibrary has the standard library log here, as net/http does of its own
// accord, and not past the filter to stderr. There is one such log in a process.
func (l *logging) takeLibrary() {
	log.SetFlags(0)
	log.SetOutput(redact.Library(func(message string) {
		l.Warn("the Go library reports a problem: " + message)
	}))
}

func (l *logging) setLevel(level string) {
	var parsed slog.Level
	if parsed.UnmarshalText([]byte(level)) == nil { // config has checked it
		l.level.Set(parsed)
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0 && f.Name() != os.DevNull && isTTY(f)
}
