package turns

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALineIsSaidOnceAMinuteWhateverTheClockDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r Rarely
		say := func(when string, want bool) {
			t.Helper()
			if r.Now() != want {
				t.Errorf("%s: want it said: %t", when, want)
			}
		}
		say("at first", true)
		say("at once again", false)
		<-time.After(59 * time.Second)
		say("within the minute", false)
		<-time.After(time.Second)
		say("after a minute", true)
		r.last.Store(time.Now().Add(time.Hour).Unix()) // said before the clock was set back
		say("with the clock set back", true)
		say("at once again, by the new clock", false)
	})
}
