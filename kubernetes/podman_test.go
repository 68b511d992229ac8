package kubernetes_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// host is a machine with podman.
type host struct {
	*testing.T
	podman string
	dir    string // with itr.env, compose.yaml and the key's directory
}

// podman makes a host with the files of the README, of which only the addresses
// of the cloud, its CA, the organization, and the key's directory are others.
func podman(t *testing.T) *host {
	t.Helper()
	h := &host{T: t, podman: os.Getenv("PODMAN"), dir: t.TempDir()}
	if h.podman == "" {
		t.Skip("there is no podman to try it with: make test-image says what it takes")
	}
	address := outside(t)
	files := t.TempDir()
	cloud, err := emulator.Start(context.WithoutCancel(t.Context()), emulator.Options{Dir: files, Listen: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	keys := filepath.Join(h.dir, "etc")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"key.json": "bot.json", "ca.pem": "ca.pem"} {
		b, err := os.ReadFile(filepath.Join(files, from))
		if err != nil {
			t.Fatal(err)
		}
		h.write(filepath.Join("etc", to), string(b))
	}
	for _, path := range []string{keys, keys + "/bot.json", keys + "/ca.pem"} {
		if err := os.Chown(path, 65532, 65532); err != nil {
			t.Skip("only root can give a key to the container's user: ", err)
		}
	}
	e := cloud.Endpoints()
	h.write("itr.env", strings.Replace(tried(t, "itr.env"), "bpfaidqca8vd0m5jl3fp", emulator.CloudOrgID, 1)+
		"ITR_CA_FILE=/etc/iam-token-refresher/ca.pem\nITR_ENDPOINT_IAM="+e.IAM+"\nITR_ENDPOINT_TRACKER="+e.Tracker+"\n")
	return h
}

func (h *host) write(name, content string) {
	h.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o600); err != nil {
		h.Fatal(err)
	}
}

// outside is an address of this machine that containers can reach.
func outside(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but its loopback")
	return ""
}

// tried is a part of the README that is marked so.
func tried(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "<!-- tried: "+name+" -->\n```")
	_, text, _ = strings.Cut(text, "\n")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatalf("README.md has no part that is marked %q", name)
	}
	return text
}

// sh runs a script as a person would, in the directory of itr.env.
func (h *host) sh(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // also in a cleanup
	defer cancel()
	script = strings.ReplaceAll(script, "/etc/iam-token-refresher:/etc", filepath.Join(h.dir, "etc")+":/etc")
	cmd := exec.CommandContext(ctx, "sh", "-ec", `podman() { "$PODMAN" "$@"; }; `+script)
	cmd.Dir, cmd.WaitDelay = h.dir, time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *host) do(script string) string {
	h.Helper()
	out, err := h.sh(script)
	if err != nil {
		h.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

func TestPodmanRunsTheImageAsTheReadmeShows(t *testing.T) {
	command := tried(t, "run")
	t.Run("as it stands", func(t *testing.T) { runImage(t, command) })
	// Podman adds writable directories, which Docker does not.
	t.Run("as Docker does it", func(t *testing.T) {
		runImage(t, strings.Replace(command, "--read-only ", "--read-only --read-only-tmpfs=false ", 1))
	})
}

func runImage(t *testing.T, command string) {
	h := podman(t)
	clean := func() { _, _ = h.sh("set +e; podman rm -f -t 0 iam-token; podman volume rm iam-token iam-state") }
	clean()
	t.Cleanup(clean)
	h.do(command)
	h.do("i=0; until podman run --rm -v iam-token:/run/iam-token:ro busybox:1.36 test -s /run/iam-token/token; do [ $((i+=1)) -lt 20 ] || { podman logs iam-token; exit 1; }; sleep 0.5; done")
	h.do("podman healthcheck run iam-token")
	// Its own files are all that it can write; there is no shell.
	if out, err := h.sh("podman exec iam-token sh"); err == nil {
		t.Errorf("there is a shell: %s", out)
	}
	// A restart serves what there was.
	h.do("podman restart -t 5 iam-token; sleep 1")
	want(t, "the log", h.do("podman logs iam-token 2>&1"), `"msg":"published"`, `"msg":"restored"`)
	begin := time.Now()
	h.do("podman stop -t 10 iam-token")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	want(t, "the exit code", h.do("podman inspect iam-token --format 'ended with {{.State.ExitCode}}'"), "ended with 0\n")
}

func TestPodmanComposeRunsTheImageAsTheReadmeShows(t *testing.T) {
	h := podman(t)
	compose := os.Getenv("PODMAN_COMPOSE")
	if compose == "" {
		t.Skip("PODMAN_COMPOSE does not say what runs a compose file")
	}
	h.write("compose.yaml", strings.ReplaceAll(tried(t, "compose.yaml"), "/etc/iam-token-refresher:/etc", filepath.Join(h.dir, "etc")+":/etc"))
	compose += " -p itr-test -f compose.yaml "
	clean := func() { // the tool leaves its network, and a container that just restarts
		_, _ = h.sh("set +e; " + compose + "down -v -t 1; podman rm -f -t 0 itr-test_app_1 itr-test_iam-token_1; podman volume rm itr-test_iam-token itr-test_iam-state; podman network rm itr-test_default")
	}
	clean()
	t.Cleanup(clean)
	h.do(compose + "up -d")
	h.do("i=0; until podman logs itr-test_app_1 2>/dev/null | grep -q '^[0-9][0-9]'; do [ $((i+=1)) -lt 20 ] || { podman logs itr-test_iam-token_1; podman logs itr-test_app_1; exit 1; }; sleep 0.5; done")
}
