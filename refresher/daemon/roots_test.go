package daemon

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

func TestAuthoritiesAreTakenWithAByteOrderMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cloud, err := emulator.Start(t.Context(), emulator.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	none := func() (*x509.CertPool, error) { return x509.NewCertPool(), nil }
	if pool, err := roots(none, append([]byte("\ufeff"), ca...)); err != nil || !pool.Equal(cloud.CertPool()) {
		t.Errorf("got %v, %v", pool, err)
	}
	for text, want := range map[string]string{"\xff\xfe-\x00": "it is UTF-16", "-----": "it holds no certificate"} {
		if _, err := roots(none, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
