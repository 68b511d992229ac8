package store

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestWhatHooksHaveDoneIsThereAfterARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := s.LoadHooks("bot"); err != nil || len(done) != 0 {
		t.Errorf("at first it is %v, %v", done, err)
	}
	want := map[string]string{"file:/run/bot": "abc-7"}
	if err := s.SaveHooks("bot", want); err != nil {
		t.Fatal(err)
	}
	if tokens := s.tokens(t); len(tokens) != 0 {
		t.Errorf("the record counts as the state of %q", tokens)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveHooks("bot", nil); err == nil {
		t.Error("it was saved in a directory that was let go")
	}
	if s, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if done, err := s.LoadHooks("bot"); err != nil || !maps.Equal(done, want) {
		t.Errorf("after the restart it is %v, %v", done, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bot.hooks"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := s.LoadHooks("bot"); err == nil {
		t.Errorf("rubbish is read as %v", done)
	}
}
