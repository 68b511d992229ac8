package oauth

import (
	"os"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

func TestWhatRootStoresBelongsToTheOwnerOfTheDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	w := newWorld(t, emulator.Options{})
	login := w.stored()
	w.try(os.Mkdir(w.path("theirs"), 0o700))
	w.try(os.Chown(w.path("theirs"), 54321, 54322))
	w.write("mine", "")
	w.try(os.Link(w.path("mine"), w.path("theirs/linked.lock")))
	c := NewClient(w.config, App{ClientID: emulator.ClientID})
	for _, name := range []string{"theirs/login", "theirs/linked"} {
		w.try(c.Keep(t.Context(), w.path(name), login))
	}
	for name, want := range map[string]int{"theirs/login": 54321, "theirs/login.lock": 54321, "theirs/linked": 54321, "mine": 0} {
		st, err := os.Stat(w.path(name))
		w.try(err)
		if uid, _ := owner(st); uid != want {
			t.Errorf("%s belongs to %d and not to %d", name, uid, want)
		}
	}
}
