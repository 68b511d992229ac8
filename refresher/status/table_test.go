package status_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
)

func table(t *testing.T, o status.TableOptions, snapshots ...refresher.Status) string {
	t.Helper()
	var b strings.Builder
	if err := status.Table(&b, source(snapshots...).Document(), now, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableIsReadable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		snapshots []refresher.Status
		o         status.TableOptions
	}{
		"one.txt":        {[]refresher.Status{token("bot")}, status.TableOptions{}},
		"everything.txt": {everything(), status.TableOptions{Width: 100}},
		"wide.txt":       {everything(), status.TableOptions{Width: 200}},
		"color.txt":      {everything(), status.TableOptions{Width: 100, Color: true}},
		"none.txt":       {nil, status.TableOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden(t, "table_"+name, table(t, c.o, c.snapshots...))
		})
	}
}

func TestTableFitsItsWidth(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("very-long-", 5) + "name"
	for _, width := range []int{100, 120, 160} {
		for line := range strings.Lines(table(t, status.TableOptions{Width: width}, append(everything(), token(long, failing))...)) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d characters in a width of %d: %s", n, width, line)
			}
		}
	}
}

func TestWordsOfAServiceCannotDriveTheTerminal(t *testing.T) {
	t.Parallel()
	got := table(t, status.TableOptions{}, token("bot", func(s *refresher.Status) {
		s.Failures, s.LastFailure, s.Source = 1, "first\nsecond\x1b]0;title\a\u202e", "key\x1b[2J"
	}))
	if strings.ContainsAny(got, "\x1b\a\u202e") || strings.Count(got, "\n") != 3 {
		t.Errorf("got %q", got)
	}
}

func TestLineSaysHowAllAreOrWhatTheWorstIsMissing(t *testing.T) {
	t.Parallel()
	for want, snapshots := range map[string][]refresher.Status{
		"no tokens configured":                                nil,
		"1 token fresh, next refresh in 41 min":               {token("bot")},
		"2 tokens fresh, next refresh in 41 min":              {token("bot"), token("wiki")},
		"2 tokens fresh, 1 unchecked, next refresh in 41 min": {token("bot"), token("wiki"), token("ci", unchecked)},
		"1 token fresh, refreshing now":                       {token("bot", func(s *refresher.Status) { s.NextRefresh = now })},
		"1 token fresh":                                       {token("bot", func(s *refresher.Status) { s.NextRefresh = time.Time{} })},
		"bot: refresh failing for 12 min, token valid for 11 h: create IAM token at iam.api.cloud.yandex.net:443: connection refused: check the network and the proxy": {
			token("wiki"), token("bot", failing),
		},
		"new: no token yet: there is no value yet": {token("bot"), token("new", pending)},
		"old: expired 5 min ago: create IAM token at iam.api.cloud.yandex.net:443: connection refused: check the network and the proxy (and 2 more in trouble)": {
			token("wiki", noAccess), token("bot", failing), token("old", expired, failing),
		},
		"ci: revoked: Tracker: 401: the token is expired or revoked":                                                                    {token("ci", revoked)},
		"wiki: no access, token valid for 11 h: Tracker: 403: no access to organization bpfaidqca8vd0m5jl3fp":                           {token("wiki", noAccess)},
		"bot: not verifiable for 20 min, token valid for 11 h":                                                                          {token("bot", doubtful)},
		"bot: published unverified, token valid for 11 h: Tracker: no answer within 10s":                                                {token("bot", unverified)},
		"bot: file:/run/x/bot.token does not hold the current version: write: permission denied: the directory must be writable for us": {token("bot", sinkFails)},
		"bot: state not saved: no space left on device":                                                                                 {token("bot", storeFails)},
		"b: revoked: Tracker: 401: the token is expired or revoked (and 1 more in trouble)":                                             {token("a", pending, optional), token("b", revoked)},
	} {
		if got := status.Line(snapshots, now); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestLineIsShort(t *testing.T) {
	t.Parallel()
	got := status.Line([]refresher.Status{token("bot", pending, func(s *refresher.Status) { s.LastFailure = strings.Repeat("это не работает ", 50) }), token("a", revoked)}, now)
	if n := utf8.RuneCountInString(got); n > 200 || !strings.HasSuffix(got, "… (and 1 more in trouble)") {
		t.Errorf("%d characters: %s", n, got)
	}
}
