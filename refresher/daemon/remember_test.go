package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/redact"
)

func TestTheTokenThatActsForAnAccountIsKnownToTheLog(t *testing.T) {
	t.Parallel()
	const own = "an-opaque-token-of-somebody"
	dir := t.TempDir()
	token, path := filepath.Join(dir, "token"), filepath.Join(dir, "config.yaml")
	if err := errors.Join(os.WriteFile(token, []byte(own), 0o600), os.WriteFile(path, fmt.Appendf(nil, `
tokens:
  - name: bot
    source: {token_file: {path: %s}, impersonate: aje00000000target}
    probe: none
    sinks: [{file: {path: %s/out}}]
endpoints: {iam: "127.0.0.1:1"}
`, token, dir), 0o600)); err != nil {
		t.Fatal(err)
	}
	d, err := New(t.Context(), Options{Stderr: os.Stderr, Load: func(try func(*config.Config) error) (*config.Config, error) {
		return config.Load(path, Kinds(), config.LoadOptions{Try: try})
	}})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody is there to make a token of it.
	if _, err := d.plan.Load().specs[0].Source.Mint(t.Context()); err == nil {
		t.Fatal("minted by nobody")
	}
	if got := d.filter.String(own); got != redact.Marker {
		t.Errorf("the log would say %s", got)
	}
}

// nothingSaved is a store that loads one value and saves none.
type nothingSaved struct{ v refresher.Version }

func (s nothingSaved) Load(string, string) (refresher.Version, refresher.Finding, bool, error) {
	return s.v, refresher.Finding{}, true, nil
}

func (nothingSaved) Save(context.Context, string, string, refresher.Version, refresher.Finding) error {
	return nil
}

func TestTheLogKnowsThePublishedValueOfEachTokenAndTheOneBefore(t *testing.T) {
	t.Parallel()
	value := func(token string, n int) refresher.Version {
		return refresher.Version{Token: token, Value: refresher.NewValue(fmt.Sprintf("opaque-value-%d-of-%s", n, token))}
	}
	var filter redact.Filter
	s := &rememberingStore{Store: nothingSaved{value("a", 0)}, filter: &filter}
	if _, _, _, err := s.Load("a", ""); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < 4; n++ {
		for _, token := range []string{"a", "b", "c"} {
			if err := s.Save(t.Context(), token, "", value(token, n), refresher.Finding{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, token := range []string{"a", "b", "c"} {
		for n, want := range []bool{false, false, true, true} {
			secret := value(token, n).Value.Reveal()
			if known := filter.String(secret) == redact.Marker; known != want {
				t.Errorf("%s: known %v, want %v", secret, known, want)
			}
		}
	}
}
