package kubernetes_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

func TestEachOverlayGivesTheAppATokenThatWasTried(t *testing.T) {
	for overlay, read := range map[string]string{
		"workload-identity": "cat /run/iam-token/token",
		"key":               "cat /run/iam-token/token",
		"file":              "sed -n 's/^Authorization: Bearer //p' /run/iam-token/token",
		"metadata":          `wget -qO- --header "Metadata-Flavor: Google" "http://$YC_METADATA_ADDR/computeMetadata/v1/instance/service-accounts/default/token" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'`,
		"config":            "cat /run/iam-token/token",
		"once":              "",
		"job":               "",
	} {
		t.Run(overlay, func(t *testing.T) {
			t.Parallel()
			s := cluster(t, emulator.Options{})
			s.inject("tracker", emulator.KindError, 503)
			s.start(overlay)
			s.logged("cannot tell")
			p := s.await("the sidecar", time.Minute, func(p *pod) bool { return p.sidecar().State.Running != nil })
			if p.isReady() || p.app().State.Running != nil {
				t.Errorf("the app was started before the token was proven: %+v", p.app())
			}
			s.cloud.ClearFaults()
			s.ready(2 * time.Minute)

			p = s.pod()
			if n := p.sidecar().RestartCount; n != 0 {
				t.Errorf("%d restarts", n)
			}
			if read != "" {
				value := s.shell(read)
				if issued := s.cloud.Issued(); !slices.Contains(issued, value) {
					t.Errorf("the app reads %d bytes, which the cloud has not issued", len(value))
				}
				if missing := s.unready(); missing != "" {
					t.Errorf("it is not ready: %s", missing)
				}
			} else {
				want(t, "the app", s.in("logs", s.workload, "-c", "app"), "worked with a token of ")
			}
			s.logReadsWell()
		})
	}
}

// start applies an overlay of a name.
func (s *scene) start(overlay string, settings ...string) {
	s.Helper()
	literals := s.settings("overlays/"+overlay, settings...)
	switch overlay {
	case "key":
		s.in("create", "secret", "generic", "iam-token-refresher", "--from-file=key.json="+filepath.Join(s.files, "key.json"))
	case "config":
		literals = []string{"config.yaml=" + s.config()}
	}
	s.apply("overlays/"+overlay, literals, "")
}

// config is the overlay's with this cloud.
func (s *scene) config() string {
	text, err := os.ReadFile("overlays/config/config.yaml")
	if err != nil {
		s.Fatal(err)
	}
	e := s.cloud.Endpoints()
	return strings.NewReplacer("aje0example0account0", emulator.BotAccount, "bpfaidqca8vd0m5jl3fp", emulator.CloudOrgID).Replace(string(text)) +
		"ca_file: /etc/cloud/ca.pem\nendpoints: {iam: \"" + e.IAM + "\", token_exchange: \"" + e.TokenExchange + "\", tracker: \"" + e.Tracker + "\"}\n"
}

func (s *scene) inject(service, kind string, status int) {
	s.Helper()
	if err := s.cloud.Inject(emulator.Fault{Service: service, Kind: kind, Status: status}); err != nil {
		s.Fatal(err)
	}
}

// logReadsWell looks at the log as a person would: what went on, each once, and
// no secret.
func (s *scene) logReadsWell() {
	s.Helper()
	log := s.log()
	s.Log(log)
	messages := map[string]int{}
	for line := range strings.Lines(log) {
		var l struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.Errorf("this line is not JSON: %s", line)
		}
		messages[l.Msg]++
		if l.Level != "INFO" && !strings.Contains(l.Msg, "cannot tell") {
			s.Errorf("somebody is to look at this: %s", line)
		}
	}
	if messages["published"] != 1 {
		s.Errorf("it is not said once that the token is published: %v", messages)
	}
	for _, secret := range s.cloud.Issued() {
		if strings.Contains(log, secret) {
			s.Error("the log holds a token")
		}
	}
}
