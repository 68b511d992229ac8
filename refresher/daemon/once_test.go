package daemon

import (
	"testing"

	"iam-token-refresher/refresher"
)

func TestATokenThatWasNotEvenBegunIsSaidToBeLateAndNoMore(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{"": "not finished in time", "it waits": "not finished in time: it waits"} {
		if got := unfinished(refresher.Status{Reason: reason}); got != want {
			t.Errorf("it says %q, not %q", got, want)
		}
	}
}
