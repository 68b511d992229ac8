package kubernetes_test

import (
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// trouble is something wrong around a pod, and what it says of it.
type trouble struct {
	begin, end func(s *scene) error
	says       string
}

func faulty(f emulator.Fault) trouble {
	return trouble{
		begin: func(s *scene) error { return s.cloud.Inject(f) },
		end:   func(s *scene) error { s.cloud.ClearFaults(); return nil },
	}
}

func (t trouble) saying(words string) trouble { t.says = words; return t }

var troubles = map[string]trouble{
	"wrong service account": {
		begin: func(s *scene) error { return s.link(emulator.OutsiderAccount) },
		end:   func(s *scene) error { return s.link(emulator.BotAccount) },
		says:  "the subject is not linked to service account " + emulator.BotAccount,
	},
	"wrong audience": {
		begin: func(s *scene) error { s.cloud.SetAudience("somebody-else"); return nil },
		end:   func(s *scene) error { s.cloud.SetAudience(audience); return nil },
		says:  "the audience of the subject token is not one of the federation",
	},
	"deleted account": {
		begin: func(s *scene) error { return s.cloud.DeleteAccount(emulator.BotAccount) },
		end:   func(s *scene) error { return s.cloud.RestoreAccount(emulator.BotAccount) },
		says:  "service account " + emulator.BotAccount + " does not exist",
	},
	"no access to Tracker": {
		begin: func(s *scene) error { return s.cloud.SetTrackerAccess(emulator.BotAccount, false) },
		end:   func(s *scene) error { return s.cloud.SetTrackerAccess(emulator.BotAccount, true) },
		says:  "403",
	},
	"the cloud is unreachable": faulty(emulator.Fault{Service: "token_exchange", Kind: emulator.KindReset}).saying("the connection was closed before the answer was complete"),
}

// link links the pod's Kubernetes service account to an account of the cloud.
func (s *scene) link(account string) error {
	return s.cloud.LinkSubject("system:serviceaccount:"+s.name+":app", account)
}

func TestAPodInTroubleSaysWhyAndRecoversByItself(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cluster(t, emulator.Options{})
			if err := trouble.begin(s); err != nil {
				t.Fatal(err)
			}
			s.start("workload-identity")
			s.logged(trouble.says)
			// The log is there before the kubelet has told of the container.
			s.await("a sidecar that runs, and an app that does not", time.Minute, func(p *pod) bool {
				return !p.isReady() && p.app().State.Running == nil && p.sidecar().State.Running != nil
			})
			want(t, "readiness", s.unready(), "default: no value yet: ", trouble.says)
			if err := trouble.end(s); err != nil {
				t.Fatal(err)
			}
			s.ready(6 * time.Minute)
			if n := s.pod().sidecar().RestartCount; n != 0 {
				t.Errorf("%d restarts", n)
			}
			t.Log(s.log())
		})
	}
}

func TestARunningAppKeepsTheLastGoodToken(t *testing.T) {
	for name, trouble := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cluster(t, emulator.Options{})
			// Tracker is not asked about the published value, which is refused there
			// in some of these troubles: whether it is good is not the question.
			s.start("workload-identity", "ITR_SCHEDULE=@every 10s")
			s.ready(time.Minute)
			if err := trouble.begin(s); err != nil {
				t.Fatal(err)
			}
			s.logged(trouble.says)
			value := s.value()
			p := s.pod()
			if !p.isReady() || p.app().RestartCount+p.sidecar().RestartCount != 0 {
				t.Errorf("the pod is not as it was: %+v", p.Status)
			}
			log := s.log()
			if err := trouble.end(s); err != nil {
				t.Fatal(err)
			}
			s.await("a new token", 6*time.Minute, func(*pod) bool { return s.value() != value })
			want(t, "the log", strings.TrimPrefix(s.log(), log), `"msg":"published"`)
		})
	}
}

func TestASecretsNewKeyIsFollowed(t *testing.T) {
	t.Parallel()
	s := cluster(t, emulator.Options{})
	s.start("key")
	s.ready(time.Minute)
	value := s.value()
	key, err := s.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{OwnRSA: true})
	if err != nil {
		t.Fatal(err)
	}
	s.file(s.files+"/new/key.json", string(key.File))
	out, err := s.try("-n", s.name, "create", "secret", "generic", "iam-token-refresher", "--from-file="+s.files+"/new/key.json", "--dry-run=client", "-o", "yaml")
	if err != nil {
		t.Fatal(out)
	}
	if out, err := s.feed([]byte(out), "-n", s.name, "apply", "-f", "-"); err != nil {
		t.Fatal(out)
	}
	s.await("the new key", 2*time.Minute, func(*pod) bool { return strings.Contains(s.log(), "key changed") })
	s.await("a new token", time.Minute, func(*pod) bool { return s.value() != value })
	if n := s.pod().sidecar().RestartCount; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

func TestAConfigMapsNewConfigurationIsFollowed(t *testing.T) {
	t.Parallel()
	s := cluster(t, emulator.Options{})
	s.start("config")
	s.ready(time.Minute)
	change := func(config string) { s.apply("overlays/config", []string{"config.yaml=" + config}, "") }
	change(strings.Replace(s.config(), "sinks:", "sinkz:", 1))
	s.await("a refusal", 2*time.Minute, func(*pod) bool { return strings.Contains(s.log(), "sinkz") })
	s.value()
	change(strings.Replace(s.config(), "/run/iam-token/env", "/run/iam-token/other", 1))
	s.await("the new file", 2*time.Minute, func(*pod) bool {
		out, err := s.try("-n", s.name, "exec", s.workload, "-c", "app", "--", "cat", "/run/iam-token/other")
		return err == nil && strings.Contains(out, "YC_TOKEN=")
	})
	if p := s.pod(); p.sidecar().RestartCount != 0 || !p.isReady() {
		t.Errorf("the pod is not as it was: %+v", p.Status)
	}
}
