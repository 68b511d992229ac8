package redact

import (
	"context"
	"encoding"
	"fmt"
	"log/slog"
	"reflect"
)

// NewHandler returns a handler that hands records on to next with their message
// and all attributes filtered. Numbers, booleans, times and durations pass as
// they are; errors stay errors, with the filtered text alone; any other value
// becomes the text that %+v makes of it. Attributes of With are filtered once,
// by what is live then.
func NewHandler(next slog.Handler, f *Filter) slog.Handler {
	return &handler{next: next, filter: f}
}

type handler struct {
	next   slog.Handler
	filter *Filter
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{next: h.next.WithGroup(name), filter: h.filter}
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean, _ := h.attrs(attrs)
	return &handler{next: h.next.WithAttrs(clean), filter: h.filter}
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	message := h.filter.String(r.Message)
	var room [8]slog.Attr
	attrs, changed := room[:0], message != r.Message
	r.Attrs(func(a slog.Attr) bool {
		clean, c := h.attr(a)
		attrs = append(attrs, clean)
		changed = changed || c
		return true
	})
	if !changed {
		return h.next.Handle(ctx, r)
	}
	clean := slog.NewRecord(r.Time, r.Level, message, r.PC)
	clean.AddAttrs(attrs...)
	return h.next.Handle(ctx, clean)
}

// attrs returns attrs itself when there was nothing to change.
func (h *handler) attrs(attrs []slog.Attr) (clean []slog.Attr, changed bool) {
	clean = attrs
	for i, a := range attrs {
		b, c := h.attr(a)
		if !c {
			continue
		}
		if !changed {
			clean, changed = append([]slog.Attr(nil), attrs...), true
		}
		clean[i] = b
	}
	return clean, changed
}

func (h *handler) attr(a slog.Attr) (clean slog.Attr, changed bool) {
	key := h.filter.String(a.Key)
	value, changed := h.value(a.Value)
	if key != a.Key || changed {
		return slog.Attr{Key: key, Value: value}, true
	}
	return a, false
}

func (h *handler) value(v slog.Value) (clean slog.Value, changed bool) {
	switch v.Kind() {
	case slog.KindString:
		s := v.String()
		if c := h.filter.String(s); c != s {
			return slog.StringValue(c), true
		}
		return v, false
	case slog.KindGroup:
		attrs, changed := h.attrs(v.Group())
		if !changed {
			return v, false
		}
		return slog.GroupValue(attrs...), true
	case slog.KindLogValuer:
		clean, _ := h.value(v.Resolve())
		return clean, true
	case slog.KindAny:
		return h.anything(v.Any())
	}
	return v, false
}

func (h *handler) anything(v any) (slog.Value, bool) {
	switch v := v.(type) {
	case nil, *slog.Source:
		return slog.AnyValue(v), false
	case error:
		// fmt, unlike the method, survives a nil pointer in the interface.
		return slog.AnyValue(plainError(h.filter.String(fmt.Sprint(v)))), true
	case fmt.Stringer:
		return slog.StringValue(h.filter.String(fmt.Sprint(v))), true
	case encoding.TextMarshaler:
		return slog.StringValue(h.filter.String(marshal(v))), true
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8 {
		return slog.StringValue(h.filter.String(string(r.Bytes()))), true
	}
	return slog.StringValue(h.filter.String(fmt.Sprintf("%+v", v))), true
}

func marshal(v encoding.TextMarshaler) string {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
		return "<nil>"
	}
	text, err := v.MarshalText()
	if err != nil {
		return "!ERROR:" + err.Error()
	}
	return string(text)
}

// plainError is what is left of an error: handlers that show errors in a
// colour of their own still know it for one.
type plainError string

func (e plainError) Error() string { return string(e) }
