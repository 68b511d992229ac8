package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"iam-token-refresher/refresher"
)

func TestACompactCopySaysTheSameAndSharesNothing(t *testing.T) {
	t.Parallel()
	c := mustParse(t, with(t, `schedule: "@every 1h"`, `cron: "TZ=Europe/Moscow 17 * * * *"`))
	fresh := compact(c)
	if !reflect.DeepEqual(fresh, c) {
		t.Fatalf("got\n%+v\nwant\n%+v", fresh, c)
	}
	a, b := &c.Tokens[0], &fresh.Tokens[0]
	if a == b || a.Probe == b.Probe || &a.Sinks[0] == &b.Sinks[0] || a.Source.Options == b.Source.Options || a.Probe.Options == b.Probe.Options {
		t.Error("the copy holds on to the original")
	}
	if a, b := a.Sinks[2].Options.(*socketSink).Allow, b.Sinks[2].Options.(*socketSink).Allow; a == b || &a.Users[0] == &b.Users[0] {
		t.Error("the copy of an option struct holds on to the original")
	}
}

func TestInALargeDocumentWhatTheMachineLacksIsShownAtItsLine(t *testing.T) {
	t.Parallel()
	text := manyTokens(100)
	if len(text) < largeDocument {
		t.Fatalf("%d bytes are not large", len(text))
	}
	opt := LoadOptions{Try: func(c *Config) error {
		return &Unfit{Of: c.Tokens[70].Sinks[0].Options, Err: &refresher.Invalid{Field: "group", Problem: `there is no group "bots"`}}
	}}
	_, err := Parse("bots.yaml", text, fakeKinds(), opt)
	if err == nil {
		t.Fatal("what Try found is lost")
	}
	line := 1 + strings.Count(strings.Split(string(text), "bot-70.token")[0], "\n")
	if want := fmt.Sprintf(`bots.yaml:%d:82: token "bot-70": sinks.file.group: there is no group "bots"`, line); !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwithout %s", err, want)
	}
}
