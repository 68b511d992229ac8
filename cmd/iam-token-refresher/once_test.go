package main

import (
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// The source gives the same value each time, which is no news to the state of an
// earlier run.
func TestOnceTriesWhatAnEarlierRunLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(s *scene, value string)
		code    int
		says    string
	}{
		"it works":           {func(*scene, string) {}, exitDone, ""},
		"it was revoked":     {func(s *scene, value string) { s.cloud.Revoke(value) }, exitFailed, "was rejected"},
		"it lost its access": {func(s *scene, _ string) { s.try(s.cloud.SetTrackerAccess(emulator.BotAccount, false)) }, exitFailed, "403"},
		"nobody can tell":    {func(s *scene, _ string) { s.inject(trackerStatus(emulator.KindError, 503)) }, exitDone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, emulator.Options{}, func(s *scene) {
				value, _, err := s.cloud.Mint(emulator.BotAccount, time.Hour)
				s.try(err)
				s.write("value", value)
				s.configure("bot", plot{source: "token_file: {path: $S/value}", more: "state_dir: " + s.path("state") + "\n"}, true)
				s.do(exitDone, "", "once", "--timeout", "15s", "--config", "bot.yaml")
				c.happens(s, value)
				s.do(c.code, c.says, "once", "--timeout", "4s", "--config", "bot.yaml")
			})
		})
	}
}
