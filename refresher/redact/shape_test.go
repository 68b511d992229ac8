package redact_test

import (
	"strings"
	"testing"

	"iam-token-refresher/refresher/redact"
	"iam-token-refresher/refresher/scrub"
)

// Speed keeps the shapes apart that others look up in a list.
func TestTheFilterKnowsEveryPrefix(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	for prefix := range strings.FieldsSeq(scrub.Prefixes) {
		secret := prefix + strings.Repeat("aB3", 10)
		if prefix == "eyJ" {
			secret += "." + secret
		}
		if got := f.String("it is " + secret + ", no"); strings.Contains(got, "aB3") || !strings.Contains(got, redact.Marker+", no") {
			t.Errorf("%s: %s", prefix, got)
		}
		if scrub.Prefix(secret) != len(prefix) {
			t.Errorf("%s is not in the list", prefix)
		}
	}
}
