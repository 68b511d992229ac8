package sink

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

func TestASetHoldsValueExpiryAndDocument(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "set")
	s, err := NewSet(SetOptions{Path: dir}, accounts())
	must(t, err)
	must(t, s.Check(t.Context()))
	v := version("bot", 7)
	v.Value = refresher.NewValue("t1.x")
	unknown := v
	unknown.N, unknown.ExpiresAt = 8, time.Time{}
	for _, c := range []struct {
		v    refresher.Version
		ends string
	}{{v, "2026-09-02T00:00:00Z"}, {unknown, ""}} {
		must(t, s.Publish(t.Context(), c.v))
		must(t, s.Holds(t.Context(), c.v))
		document, err := renderJSON(c.v)
		must(t, err)
		for name, want := range map[string]string{"token": "t1.x", "expires_at": c.ends, "token.json": string(document)} {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(got) != want {
				t.Errorf("%s holds %q, want %q: %v", name, got, want, err)
			}
			st, err := os.Stat(filepath.Join(dir, name))
			if err != nil || st.Mode() != 0o600 {
				t.Errorf("%s: %v, %v", name, st.Mode(), err)
			}
		}
	}
	if s.Holds(t.Context(), v) == nil {
		t.Error("it holds the version before")
	}
	before, err := os.Readlink(filepath.Join(dir, "..data"))
	must(t, err)
	must(t, s.Publish(t.Context(), unknown))
	if after, _ := os.Readlink(filepath.Join(dir, "..data")); after != before {
		t.Error("the same version was written again")
	}
	must(t, os.Remove(filepath.Join(dir, "token")))
	wantError(t, s.Holds(t.Context(), unknown), "is not the link that belongs there")
	must(t, s.Publish(t.Context(), unknown))
	must(t, s.Holds(t.Context(), unknown))
	must(t, s.Close(t.Context()))
}

func TestErrorsOfASetHoldNoSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "token"), []byte("x"), 0o600))
	s, err := NewSet(SetOptions{Path: dir}, accounts())
	must(t, err)
	err = errors.Join(s.Check(t.Context()), s.Publish(t.Context(), version("bot", 1)), s.Holds(t.Context(), version("bot", 1)))
	wantError(t, err, "its token is not ours: name a directory of its own")
	if strings.Contains(err.Error(), "t1.") {
		t.Errorf("the error holds the value: %v", err)
	}
	var invalid *refresher.Invalid
	if _, err = NewSet(SetOptions{Path: "/s", Group: "who"}, accounts()); !errors.As(err, &invalid) || invalid.Field != "group" {
		t.Errorf("NewSet: %v", err)
	}
}
