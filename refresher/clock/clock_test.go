package clock

import (
	"testing"
	"time"
)

func TestNowIsWallTimeWithoutAMonotonicReading(t *testing.T) {
	t.Parallel()
	now := System{}.Now()
	if now != now.Round(0) {
		t.Errorf("%v has a monotonic reading", now)
	}
	if off := time.Since(now).Abs(); off > time.Minute {
		t.Errorf("off by %v", off)
	}
}

func TestElapsedGoesOn(t *testing.T) {
	t.Parallel()
	a := System{}.Elapsed()
	<-time.After(time.Millisecond)
	b := System{}.Elapsed()
	if b-a < time.Millisecond {
		t.Errorf("%v passed, at least 1 ms did", b-a)
	}
}
