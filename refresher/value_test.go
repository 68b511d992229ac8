package refresher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestAValueIsRedactedWhereverItIsPrinted(t *testing.T) {
	t.Parallel()
	const secret = "t1.very-secret-indeed"
	v := NewValue(secret)
	type inner struct{ v Value }
	nested := struct {
		Public  Value
		private inner
		m       map[string]Value
		p       *Version
		list    []Minted
	}{v, inner{v}, map[string]Value{"k": v}, &Version{Value: v}, []Minted{{Value: v}}}
	byKey := map[Value]int{v: 1}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		for _, x := range []any{v, &v, nested, &nested, byKey, []any{v}, State{Published: &Version{Value: v}, Held: &Candidate{Minted: Minted{Value: v}}}} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
	}
	fmt.Fprintln(&out, errors.Join(fmt.Errorf("wrapped: %v", nested), fmt.Errorf("%w", errors.New(v.String()))))
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("m", "value", v, "nested", nested, "pointer", &v, slog.Group("g", "v", v))
	}
	for _, x := range []any{v, nested, byKey, Minted{Value: v}} {
		b, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	if s := out.String(); strings.Contains(s, "very-secret") || strings.Contains(s, fmt.Sprintf("%x", "very-secret")) {
		t.Errorf("the secret is in:\n%s", s)
	}
	if v.Reveal() != secret || v != NewValue(secret) || v == NewValue("other") || v.Len() != len(secret) {
		t.Error("the value is not what it was made of")
	}
	if z := (Value{}); !z.IsZero() || z.Reveal() != "" || z != NewValue("") {
		t.Error("the zero value is something")
	}
}

func TestVerdictsKeepTheirNames(t *testing.T) {
	t.Parallel()
	for v := Unproven; v <= Unknown; v++ {
		text, _ := v.MarshalText()
		var back Verdict
		if err := back.UnmarshalText(text); err != nil || back != v {
			t.Errorf("%s came back as %s, %v", v, back, err)
		}
	}
	if err := new(Verdict).UnmarshalText([]byte("splendid")); err == nil {
		t.Error("an unknown name was taken")
	}
}

func TestHealthFollowsTheTime(t *testing.T) {
	t.Parallel()
	s := Status{Version: &Version{ExpiresAt: noon}, Health: Fresh}
	if !s.Servable(noon.Add(-time.Second)) || s.Servable(noon) || s.HealthAt(noon) != Expired {
		t.Error("a value is not servable until its end")
	}
}
