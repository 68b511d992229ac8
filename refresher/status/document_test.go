package status_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/status"
)

func source(snapshots ...refresher.Status) status.Source {
	return status.Source{
		Snapshots: func() []refresher.Status { return snapshots },
		Now:       func() time.Time { return now },
		Reads: func(token, sink string) map[string]uint64 {
			if !strings.HasPrefix(sink, "socket:") {
				return nil
			}
			return map[string]uint64{"ok": uint64(len(token)), "refused": 1}
		},
		Version: "1.2.3",
	}
}

// everything is one token of each kind.
func everything() []refresher.Status {
	return []refresher.Status{
		token("bot"),
		token("reports", failing),
		token("wiki", noAccess, sinkFails, storeFails),
		token("ci", revoked),
		token("old", expired, failing),
		token("new", pending, optional),
		token("guess", unverified, doubtful, contested, func(s *refresher.Status) { s.Candidate = true }),
		token("plain", unprobed, endless),
		token("resumed", unchecked),
	}
}

// golden compares with a file of testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func document(t *testing.T, snapshots ...refresher.Status) string {
	t.Helper()
	b, err := json.MarshalIndent(source(snapshots...).Document(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

func TestDocumentSaysWhatThereIsAndNullWhereThereIsNothing(t *testing.T) {
	t.Parallel()
	golden(t, "document.json", document(t, token("bot", failing), token("new", pending, optional)))
}

func TestDocumentCanBeReadBack(t *testing.T) {
	t.Parallel()
	want := source(everything()...).Document()
	var got status.Document
	if err := json.Unmarshal([]byte(document(t, everything()...)), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNothingShownHoldsTheValue(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	doc := source(everything()...).Document()
	if err := status.Table(&table, doc, now, status.TableOptions{}); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"document": document(t, everything()...),
		"table":    table.String(),
		"line":     status.Line(everything(), now),
		"metrics":  get(t, source(everything()...), "/metrics").Body.String(),
		"health":   get(t, source(everything()...), "/readyz").Body.String(),
	} {
		if strings.Contains(text, secret) || strings.Contains(text, secret[:20]) {
			t.Errorf("%s holds it:\n%s", what, text)
		}
	}
}

func TestSecondsLeftAreRoundedDownAndNeverNegative(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]int64{
		90 * time.Second:        90,
		1999 * time.Millisecond: 1,
		999 * time.Millisecond:  0,
		-time.Hour:              0,
	} {
		got := status.Describe(token("bot", func(s *refresher.Status) { s.Version.ExpiresAt = now.Add(left) }), now)
		if got.ExpiresIn == nil || *got.ExpiresIn != want {
			t.Errorf("%v left: got %v, want %d", left, got.ExpiresIn, want)
		}
	}
}
