// Package kubernetes_test tries the manifests in a real cluster, with the
// emulator in this process for the cloud. Where that is, is said in variables;
// see test-kubernetes in the Makefile.
package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// audience is the one of ../kubernetes/workload-identity.
const audience = "iam-token-refresher"

// scene is a namespace of the cluster for one test, and a cloud for it alone.
type scene struct {
	*testing.T
	cloud     *emulator.Emulator
	name      string // the namespace
	kubectl   []string
	workload  string // kind/name of what has the pod
	directory string // a copy of the manifests
	files     string // the cloud's
}

// cluster makes a scene. Without a cluster the test is skipped.
func cluster(t *testing.T, o emulator.Options) *scene {
	t.Helper()
	s := &scene{T: t, kubectl: strings.Fields(os.Getenv("KUBECTL")), directory: t.TempDir(), workload: "deployment/app"}
	if len(s.kubectl) == 0 {
		t.Skip("there is no cluster to try it in: make test-kubernetes says what it takes")
	}
	s.name = "itr-" + strings.ToLower(strings.TrimLeft(strings.Trim(t.Name(), "Test"), "-"))
	s.name = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, s.name), "-")
	s.name = s.name[:min(len(s.name), 60)]

	jwks := filepath.Join(t.TempDir(), "jwks.json")
	s.file(jwks, s.do("get", "--raw", "/openid/v1/jwks"))
	s.files = t.TempDir()
	o.Dir, o.Listen, o.JWKS = s.files, os.Getenv("KUBERNETES_ADDRESS"), jwks
	if o.Audience == "" {
		o.Audience = audience
	}
	var err error
	if s.cloud, err = emulator.Start(context.WithoutCancel(t.Context()), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cloud.Close() })

	_, _ = s.try("delete", "namespace", s.name, "--ignore-not-found", "--wait")
	s.do("create", "namespace", s.name)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.try("get", "pods,events", "-n", s.name))
			t.Log(s.log("--tail=40"))
		}
		_, _ = s.try("delete", "namespace", s.name, "--wait=false")
	})
	s.do("label", "namespace", s.name, "pod-security.kubernetes.io/enforce=restricted")
	return s
}

// try runs kubectl.
func (s *scene) try(args ...string) (string, error) { return s.feed(nil, args...) }

func (s *scene) feed(in []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // also in a cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, s.kubectl[0], append(s.kubectl[1:len(s.kubectl):len(s.kubectl)], args...)...)
	cmd.WaitDelay = time.Second
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// do is try for what must work.
func (s *scene) do(args ...string) string {
	s.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// in is do in the scene's namespace.
func (s *scene) in(args ...string) string {
	s.Helper()
	return s.do(append([]string{"-n", s.name}, args...)...)
}

func (s *scene) file(path, content string) {
	s.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
}

// settings are what the ConfigMap of an overlay has to say in this cloud.
func (s *scene) settings(overlay string, more ...string) []string {
	e := s.cloud.Endpoints()
	settings := append([]string{
		"ITR_CLOUD_ORG_ID=" + emulator.CloudOrgID, "ITR_CA_FILE=/etc/cloud/ca.pem",
		"ITR_ENDPOINT_IAM=" + e.IAM, "ITR_ENDPOINT_TOKEN_EXCHANGE=" + e.TokenExchange, "ITR_ENDPOINT_TRACKER=" + e.Tracker,
	}, more...)
	if overlay != "overlays/key" {
		settings = append(settings, "ITR_WORKLOAD_IDENTITY_ACCOUNT="+emulator.BotAccount)
	}
	return settings
}

// apply applies an overlay as it stands, but for the image, the cloud, and more.
func (s *scene) apply(overlay string, literals []string, patch string) {
	s.Helper()
	if err := os.CopyFS(filepath.Join(s.directory, "kubernetes"), os.DirFS(".")); err != nil && !os.IsExist(err) {
		s.Fatal(err)
	}
	if overlay == "overlays/job" || overlay == "overlays/once" {
		s.workload = "job/app"
	}
	ca, err := os.ReadFile(filepath.Join(s.files, "ca.pem"))
	if err != nil {
		s.Fatal(err)
	}
	dir := filepath.Join(s.directory, "kubernetes", "applied")
	s.file(filepath.Join(dir, "ca.pem"), string(ca))
	image, tag, ok := cutTag(os.Getenv("KUBERNETES_IMAGE"))
	if !ok {
		s.Fatal("KUBERNETES_IMAGE is not NAME:TAG")
	}
	k := map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
		"namespace": s.name, "resources": []string{"../" + overlay},
		"images": []any{map[string]string{"name": "iam-token-refresher", "newName": image, "newTag": tag}},
		"configMapGenerator": []any{
			map[string]any{"name": "iam-token-refresher", "behavior": "merge", "literals": literals},
			map[string]any{"name": "cloud", "files": []string{"ca.pem"}},
		},
		"patches": []any{map[string]any{
			"target": map[string]string{"labelSelector": "iam-token=wanted"},
			"patch": `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "any"}, "spec": {"template": {"spec": {
				"initContainers": [{"name": "iam-token-refresher", "volumeMounts": [{"name": "cloud", "mountPath": "/etc/cloud"}]}],
				"volumes": [{"name": "cloud", "configMap": {"name": "cloud"}}]}}}}`,
		}},
	}
	if patch != "" {
		k["patches"] = append(k["patches"].([]any), map[string]any{"target": map[string]string{"labelSelector": "iam-token=wanted"}, "patch": patch})
	}
	text, err := json.Marshal(k)
	if err != nil {
		s.Fatal(err)
	}
	s.file(filepath.Join(dir, "kustomization.yaml"), string(text))
	s.do("apply", "-k", dir)
}

func cutTag(image string) (name, tag string, ok bool) {
	i := strings.LastIndexByte(image, ':')
	if i <= strings.LastIndexByte(image, '/') {
		return "", "", false
	}
	return image[:i], image[i+1:], true
}

// ready waits until the workload is, with all its pods.
func (s *scene) ready(most time.Duration) {
	s.Helper()
	if s.workload == "job/app" {
		s.in("wait", "--for=condition=complete", s.workload, "--timeout", most.String())
		return
	}
	s.in("rollout", "status", s.workload, "--timeout", most.String())
}

// pod is what Kubernetes says of the workload's pod.
type pod struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp *time.Time
	}
	Spec struct {
		NodeName                      string
		TerminationGracePeriodSeconds int
	}
	Status struct {
		Phase                 string
		InitContainerStatuses []containerStatus
		ContainerStatuses     []containerStatus
		Conditions            []struct{ Type, Status, Message string }
	}
}

type containerStatus struct {
	Name             string
	ContainerID      string
	Ready, Started   bool
	RestartCount     int
	State, LastState struct {
		Waiting    *struct{ Reason string }
		Running    *struct{ StartedAt time.Time }
		Terminated *struct {
			ExitCode              int
			Reason                string
			StartedAt, FinishedAt time.Time
		}
	}
}

// pod returns the newest of the workload's pods; nil if there is none.
func (s *scene) pod() *pod {
	s.Helper()
	selector := "app=app"
	if s.workload == "job/app" {
		selector = "job-name=app"
	}
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(s.in("get", "pods", "-l", selector, "-o", "json", "--sort-by=.metadata.creationTimestamp")), &list); err != nil {
		s.Fatal(err)
	}
	if len(list.Items) == 0 {
		return nil
	}
	return &list.Items[len(list.Items)-1]
}

// sidecar and app are its two containers.
func (p *pod) sidecar() containerStatus {
	return container(p.Status.InitContainerStatuses, "iam-token-refresher")
}
func (p *pod) app() containerStatus { return container(p.Status.ContainerStatuses, "app") }

func (p *pod) isReady() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

func container(all []containerStatus, name string) containerStatus {
	for _, c := range all {
		if c.Name == name {
			return c
		}
	}
	return containerStatus{}
}

// await waits until something is true of the pod. The cluster is asked again
// and again: its own waiting knows only conditions.
func (s *scene) await(what string, most time.Duration, is func(*pod) bool) *pod {
	s.Helper()
	for end := time.Now().Add(most); ; {
		if p := s.pod(); p != nil && is(p) {
			return p
		}
		if time.Now().After(end) {
			s.Fatalf("waited in vain for: %s", what)
		}
		<-time.After(200 * time.Millisecond)
	}
}

// log is the sidecar's.
func (s *scene) log(args ...string) string {
	out, _ := s.try(append([]string{"-n", s.name, "logs", s.workload, "-c", "iam-token-refresher"}, args...)...)
	return out
}

// logged waits until the sidecar's log has all of some words.
func (s *scene) logged(words ...string) {
	s.Helper()
	s.await(fmt.Sprintf("%q in the log", words), time.Minute, func(*pod) bool {
		log := s.log()
		for _, w := range words {
			if !strings.Contains(log, w) {
				return false
			}
		}
		return true
	})
}

// unready is what the sidecar misses to be ready, in its own words; empty when
// it is. (The kubelet's event says 503, and the API server's proxy no more.)
func (s *scene) unready() string {
	out, err := s.try("-n", s.name, "exec", s.workload, "-c", "iam-token-refresher", "--", "/iam-token-refresher", "healthcheck")
	if err == nil {
		return ""
	}
	return out
}

// shell runs a script in the app's container.
func (s *scene) shell(script string) string {
	s.Helper()
	return s.in("exec", s.workload, "-c", "app", "--", "sh", "-c", script)
}

// value is the token that the app reads now.
func (s *scene) value() string { s.Helper(); return s.shell("cat /run/iam-token/token") }

func want(t testing.TB, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: there is no %q in %q", what, part, got)
		}
	}
}
