package redact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/redact"
)

const secret = "an-opaque-value-that-nobody-may-see"

type stringer struct{ s string }

func (s *stringer) String() string { return s.s }

type marshaler struct{ s string }

func (m marshaler) MarshalText() ([]byte, error) { return []byte(m.s), nil }

type valuer struct{ s string }

func (v valuer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("inner", v.s), slog.Any("err", errors.New(v.s)))
}

type nested struct {
	Name  string
	Inner struct{ text string }
}

func TestNoAttributeOfAnyKindHoldsAValue(t *testing.T) {
	t.Parallel()
	var n nested
	n.Inner.text = secret
	for name, attr := range map[string]slog.Attr{
		"string":         slog.String("k", "is "+secret),
		"key":            slog.String(secret, "v"),
		"error":          slog.Any("k", fmt.Errorf("doing: %w", errors.New(secret))),
		"stringer":       slog.Any("k", &stringer{secret}),
		"text marshaler": slog.Any("k", marshaler{secret}),
		"log valuer":     slog.Any("k", valuer{secret}),
		"group":          slog.Group("k", slog.Int("n", 1), slog.Group("g", slog.String("s", secret))),
		"bytes":          slog.Any("k", []byte(secret)),
		"slice":          slog.Any("k", []string{"a", secret}),
		"map":            slog.Any("k", map[string]any{secret: secret}),
		"struct":         slog.Any("k", n),
		"nil stringer":   slog.Any("k", (*stringer)(nil)),
		"nil marshaler":  slog.Any("k", (*marshaler)(nil)),
		"nil":            slog.Any("k", nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f redact.Filter
			f.Add(refresher.NewValue(secret))
			for _, format := range []string{"text", "json"} {
				var out bytes.Buffer
				var next slog.Handler = slog.NewTextHandler(&out, nil)
				if format == "json" {
					next = slog.NewJSONHandler(&out, nil)
				}
				log := slog.New(redact.NewHandler(next, &f))
				log.LogAttrs(t.Context(), slog.LevelInfo, "message", attr)
				log.With(slog.Int("one", 1), attr).WithGroup("group").Info("message")
				if got := out.String(); strings.Contains(got, secret) {
					t.Errorf("%s shows it:\n%s", format, got)
				} else if !strings.HasPrefix(name, "nil") && strings.Count(got, "[redacted]") < 2 {
					t.Errorf("%s lost it altogether:\n%s", format, got)
				}
			}
		})
	}
}

func TestMessageIsFiltered(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	f.Add(refresher.NewValue(secret))
	var out bytes.Buffer
	slog.New(redact.NewHandler(slog.NewTextHandler(&out, nil), &f)).Info("got "+secret, "n", 1)
	if got := out.String(); !strings.Contains(got, `msg="got [redacted]" n=1`) {
		t.Errorf("got %s", got)
	}
}

// last keeps the newest record.
type last struct{ record *slog.Record }

func (last) Enabled(_ context.Context, l slog.Level) bool    { return l >= slog.LevelInfo }
func (l last) Handle(_ context.Context, r slog.Record) error { *l.record = r; return nil }
func (l last) WithAttrs([]slog.Attr) slog.Handler            { return l }
func (l last) WithGroup(string) slog.Handler                 { return l }
func attrs(r slog.Record) (list []slog.Attr) {
	r.Attrs(func(a slog.Attr) bool { list = append(list, a); return true })
	return list
}

func TestRecordKeepsItsTimePlaceLevelAndPlainAttributes(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	f.Add(refresher.NewValue(secret))
	var got slog.Record
	h := redact.NewHandler(last{&got}, &f)
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := slog.NewRecord(when, slog.LevelWarn, "message "+secret, 42)
	want.AddAttrs(slog.Int("n", 1), slog.Duration("d", time.Second), slog.Time("t", when), slog.Bool("b", true))
	if err := h.Handle(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got.Message != "message [redacted]" || !got.Time.Equal(when) || got.Level != slog.LevelWarn || got.PC != 42 {
		t.Errorf("got %+v", got)
	}
	for i, a := range attrs(want) {
		if !attrs(got)[i].Equal(a) {
			t.Errorf("got %v, want %v", attrs(got)[i], a)
		}
	}
	if h.Enabled(t.Context(), slog.LevelDebug) || !h.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the level is not the next handler's")
	}
}

func TestErrorStaysAnErrorForTheNextHandler(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	var got slog.Record
	slog.New(redact.NewHandler(last{&got}, &f)).Info("message", "err", errors.New("it failed"))
	err, ok := attrs(got)[0].Value.Any().(error)
	if !ok || err.Error() != "it failed" {
		t.Errorf("got %v", attrs(got))
	}
}

func BenchmarkHandler(b *testing.B) {
	var f redact.Filter
	f.Add(refresher.NewValue(secret))
	for name, h := range map[string]slog.Handler{
		"bare":     slog.DiscardHandler,
		"filtered": redact.NewHandler(yes{}, &f),
	} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(h)
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(b.Context(), slog.LevelInfo, "published", slog.String("token", "bot"), slog.Uint64("version", 12),
					slog.String("verdict", "accepted"), slog.Duration("took", time.Second), slog.String("reason", "it was due by its schedule"))
			}
		})
	}
}

// yes takes every record and drops it.
type yes struct{ last }

func (yes) Handle(context.Context, slog.Record) error { return nil }
