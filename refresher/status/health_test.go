package status_test

import (
	"slices"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
)

func TestReadyMeansReady(t *testing.T) {
	t.Parallel()
	const (
		refused  = "create IAM token at iam.api.cloud.yandex.net:443: connection refused: check the network and the proxy"
		sinkLine = "bot: version 12 is not yet in file:/run/x/bot.token: write: permission denied: the directory must be writable for us"
	)
	for name, c := range map[string]struct {
		change  func(*refresher.Status)
		before  []string // what is missing to become ready
		reached []string // what is missing to stay so
	}{
		"published to all sinks":                {func(*refresher.Status) {}, nil, nil},
		"nothing published":                     {pending, []string{"bot: no value yet: there is no value yet"}, []string{"bot: no value yet: there is no value yet"}},
		"nothing published, and failing":        {func(s *refresher.Status) { pending(s); failing(s) }, []string{"bot: no value yet: " + refused}, []string{"bot: no value yet: " + refused}},
		"nothing published, but not required":   {func(s *refresher.Status) { pending(s); optional(s) }, nil, nil},
		"a failing sink":                        {sinkFails, []string{sinkLine}, nil},
		"a contested sink":                      {contested, []string{"bot: version 12 is not yet in file:/run/x/bot.token"}, nil},
		"no sinks":                              {func(s *refresher.Status) { s.Sinks = nil }, nil, nil},
		"a failing refresh":                     {failing, nil, nil},
		"an unknown verdict":                    {doubtful, nil, nil},
		"published unverified":                  {unverified, nil, nil},
		"restored and not checked yet":          {unchecked, nil, nil},
		"no access":                             {noAccess, nil, nil},
		"a state that cannot be saved":          {storeFails, nil, nil},
		"an end that nobody knows":              {endless, nil, nil},
		"revoked":                               {revoked, []string{"bot: revoked: Tracker: 401: the token is expired or revoked"}, []string{"bot: revoked: Tracker: 401: the token is expired or revoked"}},
		"expired since the snapshot, failing":   {func(s *refresher.Status) { failing(s); expired(s) }, []string{"bot: expired 5 min ago: " + refused}, []string{"bot: expired 5 min ago: " + refused}},
		"expired, but not required":             {func(s *refresher.Status) { expired(s); optional(s) }, nil, nil},
		"a failure of many lines and no colour": {func(s *refresher.Status) { pending(s); s.LastFailure = "one\n\x1b[31mtwo" }, []string{"bot: no value yet: one [31mtwo"}, []string{"bot: no value yet: one [31mtwo"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			snapshots := []refresher.Status{token("other"), token("bot", c.change)}
			if got := status.Missing(snapshots, now, false); !slices.Equal(got, c.before) {
				t.Errorf("to become ready: got %q, want %q", got, c.before)
			}
			if got := status.Missing(snapshots, now, true); !slices.Equal(got, c.reached) {
				t.Errorf("to stay ready: got %q, want %q", got, c.reached)
			}
		})
	}
}

func TestReadinessIsEasierToKeepThanToReach(t *testing.T) {
	t.Parallel()
	var r status.Readiness
	broken, good := []refresher.Status{token("bot", sinkFails)}, []refresher.Status{token("bot")}
	if len(r.Missing(broken, now)) == 0 || r.Reached() {
		t.Error("ready before every sink holds the version")
	}
	if missing := r.Missing(good, now); len(missing) > 0 || !r.Reached() {
		t.Errorf("not ready: %q", missing)
	}
	if missing := r.Missing(broken, now); len(missing) > 0 {
		t.Errorf("not ready any more for one sink: %q", missing)
	}
	if len(r.Missing(good, now.Add(12*time.Hour))) == 0 {
		t.Error("still ready when the value has expired")
	}
	if missing := r.Missing(good, now); len(missing) > 0 {
		t.Errorf("not ready again: %q", missing)
	}
}
