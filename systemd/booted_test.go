// Package systemd_test tries the package and its units in a booted systemd. Where
// that is, is said in variables; see test-systemd in the Makefile.
package systemd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unit is what everything here is about.
const unit = "iam-token-refresher.service"

// machine is a throw-away Debian that we are root of. The tests share it, and run
// one after the other.
type machine struct {
	*testing.T
	run, copy, reboot []string
}

// bare returns the machine as it is. Without one the test is skipped.
func bare(t *testing.T) *machine {
	t.Helper()
	m := &machine{
		T: t, run: strings.Fields(os.Getenv("SYSTEMD_RUN")), copy: strings.Fields(os.Getenv("SYSTEMD_COPY")),
		reboot: strings.Fields(os.Getenv("SYSTEMD_REBOOT")),
	}
	if len(m.run) == 0 || len(m.copy) == 0 {
		t.Skip("there is no booted system to try it in: make test-systemd says what it takes")
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("systemctl --no-pager status " + unit + " iam-token-refresher.socket; journalctl -b --no-pager -n 60 -o short-precise")
			t.Log(out)
		}
	})
	return m
}

// booted returns the machine with the package installed, the cloud up and the
// service as after the installation.
func booted(t *testing.T) *machine {
	t.Helper()
	m := bare(t)
	if _, err := m.try("dpkg-query -W iam-token-refresher && test -e /var/tmp/itr.deb"); err != nil {
		m.do(ours + " >/var/tmp/before")
		m.push(os.Getenv("SYSTEMD_PACKAGE"), "/var/tmp/itr.deb")
		m.do("dpkg -i /var/tmp/itr.deb")
	}
	m.do(`systemctl unmask -q iam-token-refresher.socket
		for u in consumer-renew.path consumer.service iam-token-refresher.service iam-token-refresher.socket; do systemctl disable -q --now $u 2>/dev/null || :; done
		systemctl reset-failed 2>/dev/null || :
		rm -rf /etc/iam-token-refresher/*.cred /etc/systemd/system/iam-token-refresher.* /etc/systemd/system/consumer* /var/lib/iam-token-refresher/* /run/iam-token-refresher/* /run/iam-token-refresher-state/*
		systemctl daemon-reload`)
	m.cloud()
	return m
}

// ours lists what has the name of the package, sorted. A machine may have such
// files before the installation: a compiler's cache, say.
const ours = `{ find / -xdev -name '*iam-token-refresher*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/var/cache/*' 2>/dev/null
	getent passwd iam-token-refresher; getent group iam-token-refresher; } | LC_ALL=C sort`

// try runs a shell script in the machine.
func (m *machine) try(script string) (string, error) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 30*time.Second)
	if m.Context().Err() != nil { // in a cleanup
		ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	}
	defer cancel()
	cmd := exec.CommandContext(ctx, m.run[0], append(m.run[1:len(m.run):len(m.run)], "sh", "-c", script)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// do is try for what must work.
func (m *machine) do(script string) string {
	m.Helper()
	out, err := m.try(script)
	if err != nil {
		m.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// await waits until a condition holds in the machine. It has no event for many
// of them, so it looks every now and then, in there.
func (m *machine) await(condition string) {
	m.Helper()
	if out, err := m.try("timeout 20 sh -c 'until " + strings.ReplaceAll(condition, "'", `'\''`) + "; do sleep 0.05; done' 2>&1"); err != nil {
		m.Fatalf("waited in vain for: %s\n%s", condition, out)
	}
}

func (m *machine) push(from, to string) {
	m.Helper()
	args := append(m.copy[1:len(m.copy):len(m.copy)], from, to)
	if out, err := exec.CommandContext(m.Context(), m.copy[0], args...).CombinedOutput(); err != nil {
		m.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// write makes a file in the machine.
func (m *machine) write(path, content string) {
	m.Helper()
	f := filepath.Join(m.TempDir(), filepath.Base(path))
	if err := os.WriteFile(f, []byte(content), 0o644); err != nil {
		m.Fatal(err)
	}
	m.push(f, path)
}

// dropIn puts an example in force.
func (m *machine) dropIn(example, of string) {
	m.Helper()
	m.do(fmt.Sprintf("mkdir -p /etc/systemd/system/%s.d && cp /usr/share/doc/iam-token-refresher/examples/%s /etc/systemd/system/%[1]s.d/ && systemctl daemon-reload", of, example))
}

// property is what systemd says of the service.
func (m *machine) property(name string) string {
	m.Helper()
	return m.do("systemctl show " + unit + " --value -p " + name)
}

func (m *machine) number(name string) int {
	m.Helper()
	n, err := strconv.Atoi(m.property(name))
	if err != nil {
		m.Fatal(err)
	}
	return n
}

// cloud makes the emulator run, sound and with a key for the service.
func (m *machine) cloud() {
	m.Helper()
	if _, err := m.try("systemctl is-active -q emulator"); err != nil {
		m.push(os.Getenv("SYSTEMD_EMULATOR"), "/usr/local/bin/iam-emulator")
		m.do("rm -rf /var/tmp/cloud; systemctl reset-failed emulator 2>/dev/null; systemd-run -q --unit=emulator iam-emulator --dir /var/tmp/cloud")
		m.await("test -e /var/tmp/cloud/endpoints.json")
	}
	m.sound()
	m.do(`install -o iam-token-refresher -m 0600 /var/tmp/cloud/key.json /etc/iam-token-refresher/bot.json
		install -m 0644 /var/tmp/cloud/ca.pem /etc/iam-token-refresher/ca.pem`)
}

// admin asks the emulator for something.
func (m *machine) admin(args string) {
	m.Helper()
	var endpoints struct{ Admin string }
	if err := json.Unmarshal([]byte(m.do("cat /var/tmp/cloud/endpoints.json")), &endpoints); err != nil {
		m.Fatal(err)
	}
	m.do("curl -fsS " + strings.ReplaceAll(args, "ADMIN", endpoints.Admin))
}

func (m *machine) broken(service, kind string) {
	m.Helper()
	m.admin(fmt.Sprintf(`-d '{"service":%q,"kind":%q,"for":"10m"}' ADMIN/faults`, service, kind))
}

func (m *machine) sound() { m.Helper(); m.admin("-X DELETE ADMIN/faults") }

// usual is the configuration that a test begins with: NAME: VALUE by turns
// replace its texts.
func (m *machine) usual(replace ...string) string {
	m.Helper()
	endpoints := m.do("sed -n '/^endpoints:/,$p' /var/tmp/cloud/config.yaml | grep -v ca_file; grep -o 'cloud_org_id: [a-z0-9]*' /var/tmp/cloud/config.yaml")
	endpoints, org, _ := strings.Cut(endpoints, "\ncloud_org_id: ")
	return strings.NewReplacer(replace...).Replace(`state_dir: /run/iam-token-refresher-state
tokens:
  - name: bot
    source: {service_account_key: {file: /etc/iam-token-refresher/bot.json}}
    probe: {tracker: {cloud_org_id: `+org+`}}
    sinks:
      - file: {path: /run/iam-token-refresher/bot.token}
      - env_file: {path: /run/iam-token-refresher/bot.env, variables: {YC_TOKEN: "{{.Value}}"}}
      - socket: {path: /run/iam-token-refresher.sock}
ca_file: /etc/iam-token-refresher/ca.pem
`) + endpoints + "\n"
}

const configPath = "/etc/iam-token-refresher/config.yaml"

// start configures and starts the service.
func (m *machine) start(replace ...string) {
	m.Helper()
	m.write(configPath, m.usual(replace...))
	m.do("systemctl start " + unit)
}

const (
	fileToken  = "cat /run/iam-token-refresher/bot.token"
	readSocket = "curl -sS --unix-socket /run/iam-token-refresher.sock http://localhost/v1/tokens/bot"
)

func want(t testing.TB, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: there is no %q in %q", what, part, got)
		}
	}
}
