package iam

import (
	"testing"
	"time"
)

func TestSpansAreSaidInTheBiggestUnitThatFits(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                              "0 s",
		-31 * time.Second:              "31 s",
		7*time.Minute + 3*time.Second:  "7 min",
		2*time.Hour - time.Millisecond: "2 h",
		13 * time.Hour:                 "13 h",
		72 * time.Hour:                 "3 days",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %q, want %q", d, got, want)
		}
	}
}
