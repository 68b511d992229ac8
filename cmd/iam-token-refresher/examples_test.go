package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/yandex-cloud/go-sdk/v2/credentials"
	"golang.org/x/oauth2/google"

	"iam-token-refresher/refresher/emulator"
)

// The examples of the README run here with the clients themselves, where these
// are installed.

// exampleSDK is a program that knows the cloud's SDK for Go and nothing of us.
func exampleSDK() {
	token, err := credentials.MetadataService().IAMToken(context.Background())
	exampleEnd(token.Token, err)
}

// exampleOAuth2 is a program that knows Google's cloud alone.
func exampleOAuth2() {
	source := google.ComputeTokenSource("")
	token, err := source.Token()
	if err != nil {
		exampleEnd("", err)
	}
	exampleEnd(token.AccessToken, nil)
}

func exampleEnd(token string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(token)
	os.Exit(0)
}

// nodeModules is where .ci/run puts Node's packages.
const nodeModules = "../../.ci/node/node_modules"

const exampleNode = `
const { createRequire } = require("module");
const { MetadataTokenService } = createRequire(process.argv[1] + "/")("@yandex-cloud/nodejs-sdk/dist/token-service/metadata-token-service");
new MetadataTokenService(process.argv[2]).getToken().then((token) => {
  process.stdout.write(token, () => process.exit(0));
}, (error) => {
  process.stderr.write(String(error), () => process.exit(1));
});
`

func TestExamplesOfOtherPrograms(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.configure("bot", plot{}, false)
		text, err := os.ReadFile(s.path("bot.yaml"))
		s.try(err)
		s.write("bot.yaml", strings.Replace(string(text), "    sinks:\n", strings.ReplaceAll(`    sinks:
      - file: {path: $S/bot.header, format: header}
      - env_file: {path: $S/bot.env, variables: {YC_TOKEN: "{{.Value}}", TRACKER_ORG_ID: "{{.OrgID}}"}}
`, "$S", s.dir), 1))
		s.daemon = s.background("run", "run", "--config", "bot.yaml")
		s.ready()
		for name, example := range map[string]func(*testing.T, *scene) (token string){
			"curl with a header file":   curlHeaderFile,
			"sh with an env file":       shEnvFile,
			"docker with an env file":   dockerEnvFile,
			"docker with the helper":    dockerRegistry,
			"kubectl with the plugin":   kubectlPlugin,
			"Go with the cloud's SDK":   goSDK,
			"Go with x/oauth2":          goOAuth2,
			"Node with the cloud's SDK": nodeSDK,
		} {
			t.Run(name, func(t *testing.T) {
				if token := example(t, s); token != s.file() {
					t.Errorf("it has a token of %d bytes that is not the published one", len(token))
				}
			})
		}
	})
}

// example runs a program that must be installed, and returns its output.
func (s *scene) example(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := s.other(t, env, name, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderrOf(err))
	}
	return string(out)
}

func (s *scene) other(t *testing.T, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = s.dir
	cmd.Env = append(s.exec().Env, append(env, "HOME="+s.dir)...)
	return cmd
}

func stderrOf(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return string(exit.Stderr)
	}
	return ""
}

// api serves something that wants a token, and tells which it was given.
func api(t *testing.T, start func(http.Handler) *httptest.Server, handler func(w http.ResponseWriter, r *http.Request, token string)) (server *httptest.Server, given func() string) {
	t.Helper()
	var mu sync.Mutex
	last := ""
	server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if user, password, basic := r.BasicAuth(); basic && user == "iam" {
			token, ok = password, true
		}
		if ok {
			mu.Lock()
			last = token
			mu.Unlock()
		}
		handler(w, r, token)
	}))
	t.Cleanup(server.Close)
	return server, func() string {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

func curlHeaderFile(t *testing.T, s *scene) string {
	out := s.example(t, nil, "curl", "-sS", "--cacert", s.path("cloud/ca.pem"), "-H", "@bot.header",
		"-H", "X-Cloud-Org-ID: "+emulator.CloudOrgID, s.cloud.Endpoints().Tracker+"/v3/myself")
	if !strings.Contains(out, `"login"`) {
		t.Errorf("Tracker says %s", out)
	}
	server, given := api(t, httptest.NewServer, func(http.ResponseWriter, *http.Request, string) {})
	s.example(t, nil, "curl", "-sS", "-H", "@bot.header", server.URL)
	return given()
}

func shEnvFile(t *testing.T, s *scene) string {
	return s.example(t, nil, "sh", "-c", `set -a; . ./bot.env; exec sh -c 'printf %s "$YC_TOKEN"'`)
}

// dockerEnvFile has docker's own client read the file; its daemon is ours.
func dockerEnvFile(t *testing.T, s *scene) string {
	var mu sync.Mutex
	var env []string
	socket := filepath.Join(shortDir(t), "docker.sock")
	serve(t, "unix", socket, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.44")
		w.Header().Set("Content-Type", "application/json")
		if !strings.HasSuffix(r.URL.Path, "/containers/create") {
			_, _ = io.WriteString(w, "{}")
			return
		}
		var container struct{ Env []string }
		_ = json.NewDecoder(r.Body).Decode(&container)
		mu.Lock()
		env = container.Env
		mu.Unlock()
		_, _ = io.WriteString(w, `{"Id":"0123456789abcdef"}`)
	})
	s.example(t, []string{"DOCKER_HOST=unix://" + socket}, "docker", "create", "--pull=never", "--env-file", "bot.env", "image")
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(env, "TRACKER_ORG_ID="+emulator.CloudOrgID) {
		t.Error("docker has not got the organization")
	}
	for _, v := range env {
		if token, ok := strings.CutPrefix(v, "YC_TOKEN="); ok {
			return token
		}
	}
	return ""
}

// dockerRegistry has docker's client ask a registry, which wants Basic auth as
// the cloud's takes it.
func dockerRegistry(t *testing.T, s *scene) string {
	const manifest = `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}`
	server, given := api(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request, token string) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		switch {
		case token == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="stub"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			_, _ = io.WriteString(w, manifest)
		case strings.Contains(r.URL.Path, "/blobs/"):
			_, _ = io.WriteString(w, "{}")
		}
	})
	host := strings.TrimPrefix(server.URL, "http://")
	s.write("config.json", `{"credHelpers": {"`+host+`": "iam-token-refresher"}}`)
	s.example(t, []string{"ITR_SOCKET=" + s.path("s"), "ITR_REGISTRIES=" + host, "DOCKER_HOST=unix://" + s.path("none")},
		"docker", "--config", s.dir, "manifest", "inspect", "--insecure", host+"/image:tag")
	return given()
}

func kubectlPlugin(t *testing.T, s *scene) string {
	server, given := api(t, httptest.NewTLSServer, func(w http.ResponseWriter, r *http.Request, token string) {
		if token == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"major":"1","minor":"32","gitVersion":"v1.32.0"}`)
	})
	s.write("kubernetes.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	s.write("kubeconfig", strings.NewReplacer("$URL", server.URL, "$S", s.dir).Replace(`apiVersion: v1
kind: Config
clusters: [{name: stub, cluster: {server: "$URL", certificate-authority: $S/kubernetes.pem}}]
contexts: [{name: stub, context: {cluster: stub, user: bot}}]
current-context: stub
users:
  - name: bot
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        interactiveMode: Never
        command: iam-token-refresher
        args: [get, bot, --format, exec-credential, --socket, $S/s]
`))
	out := s.example(t, nil, "kubectl", "--kubeconfig", s.path("kubeconfig"), "get", "--raw", "/version")
	if !strings.Contains(out, "v1.32.0") {
		t.Errorf("kubectl says %s", out)
	}
	return given()
}

func goSDK(t *testing.T, s *scene) string {
	return s.example(t, []string{"YC_METADATA_ADDR=" + s.metadata}, "example-sdk")
}

func goOAuth2(t *testing.T, s *scene) string {
	return s.example(t, []string{"GCE_METADATA_HOST=" + s.metadata}, "example-oauth2")
}

func nodeSDK(t *testing.T, s *scene) string {
	modules, err := filepath.Abs(nodeModules)
	s.try(err)
	if _, err := os.Stat(filepath.Join(modules, "@yandex-cloud/nodejs-sdk")); err != nil {
		t.Skip("@yandex-cloud/nodejs-sdk is not installed: npm install --prefix .ci/node")
	}
	return s.example(t, nil, "node", "-e", exampleNode, modules, "http://"+s.metadata+"/computeMetadata/v1/instance/service-accounts/default/token")
}
