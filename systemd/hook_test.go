package systemd_test

import "testing"

func TestAHookRestartsItsUnitOncePerVersion(t *testing.T) {
	m := booted(t)
	m.do("systemctl stop hooked.service 2>/dev/null; systemctl reset-failed hooked.service 2>/dev/null; systemd-run -q --unit=hooked sleep infinity")
	// As root, whom polkit need not ask.
	m.write("/var/tmp/hook.yaml", m.usual("state_dir: /run/iam-token-refresher-state\n", "", "      - socket: {path: /run/iam-token-refresher.sock}\n", "",
		"      - env_file", "        on_change: {systemd_unit: {name: hooked.service, action: restart}}\n      - env_file"))
	pid := "systemctl show hooked.service --value -p MainPID"
	before := m.do(pid)
	m.do("iam-token-refresher once --config /var/tmp/hook.yaml --timeout 20s")
	m.await("test $(" + pid + ") != " + before)
	if got := m.do("journalctl -b --no-pager -o cat -u hooked.service | grep -c '^Started' "); got != "2" {
		t.Errorf("it was started %s times, want twice", got)
	}
	m.do("systemctl stop hooked.service; rm /var/tmp/hook.yaml /run/iam-token-refresher/*")
}
