package main

import (
	"maps"
	"testing"
)

func TestMetricsAreCountedByLabel(t *testing.T) {
	t.Parallel()
	got := countsOf(`# HELP iam_token_probes_total Probes.
iam_token_probes_total{token="bot",verdict="accepted"} 12
iam_token_probes_total{verdict="rejected: token",token="bot"} 2
iam_token_probes_total{token="other",verdict="accepted"} 1
iam_token_probes_total_else{verdict="accepted"} 100
iam_token_version{token="bot"} 7
`, "iam_token_probes_total", "verdict")
	if want := map[string]int{"accepted": 13, "rejected: token": 2}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTheVersionIsInTheETag(t *testing.T) {
	t.Parallel()
	for etag, want := range map[string]uint64{`"KYGK-12"`: 12, `"A-B-3"`: 3, `""`: 0, `"x"`: 0} {
		if got := versionOf(etag); got != want {
			t.Errorf("%s: %d, want %d", etag, got, want)
		}
	}
}
