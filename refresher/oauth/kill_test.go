package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// killedAt is the variable that makes this test binary a process that mints and
// is killed at a step around storing the login.
const killedAt = "OAUTH_TEST_KILLED_AT"

// TestKilled is that process.
func TestKilled(t *testing.T) {
	step := os.Getenv(killedAt)
	if step == "" {
		t.Skip("only for TestAKillAroundStoringLosesNothing")
	}
	ca, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(ca)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	s, err := Options{ClientID: emulator.ClientID, ClientSecretFile: os.Getenv("SECRET"), TokenFile: os.Getenv("LOGIN")}.New(Config{
		URL: os.Getenv("URL"), HTTP: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
		Clock: func() time.Time { return time.Now().Round(0).Add(11 * day) },
	})
	if err != nil {
		t.Fatal(err)
	}
	die := func() error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	s.(*source).file.write = func(path string, l Login) error {
		if step == "before it is stored" {
			return die()
		}
		return errors.Join(writeLogin(path, l), die())
	}
	_, _ = s.Mint(context.Background())
	t.Fatal("it was not killed")
}

func TestAKillAroundStoringLosesNothing(t *testing.T) {
	t.Parallel()
	for step, exchanges := range map[string]int{"before it is stored": 2, "after it was stored": 1} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			// What dies before it is stored takes the server's grace to live on.
			w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day, RefreshGrace: time.Hour})
			old := w.stored()
			w.later(11 * day)
			cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
			cmd.Env = append(os.Environ(), killedAt+"="+step, "CA="+w.path("cloud/ca.pem"), "SECRET="+w.path("secret"), "LOGIN="+w.path("login"), "URL="+w.config.URL)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			if kept := w.stored(); (kept.Access == old.Access) != (exchanges == 2) {
				t.Error("the file is not what it should be at this step")
			}
			m := w.mint(w.source())
			if m.Value == old.Access || m.Value != w.stored().Access || w.exchanges() != exchanges {
				t.Errorf("after it there were %d exchanges, want %d", w.exchanges(), exchanges)
			}
		})
	}
}
