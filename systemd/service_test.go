package systemd_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTheServiceIsActiveOnceTheTokenIsThere(t *testing.T) {
	m := booted(t)
	if got, _ := m.try("systemctl is-enabled iam-token-refresher.service iam-token-refresher.socket; systemctl is-active iam-token-refresher.service iam-token-refresher.socket"); got != "disabled\ndisabled\ninactive\ninactive" {
		t.Errorf("after the installation: %s", got)
	}
	m.write(configPath, m.usual())
	m.do("systemctl enable -q --now " + unit + " && test -s /run/iam-token-refresher/bot.token")
	status := m.do("systemctl --no-pager status " + unit)
	want(t, "status", status, "active (running)", `Status: "1 token fresh, next refresh in `, "published token=bot version=1")
	if v := m.do(readSocket); v != m.do(fileToken) || v == "" {
		t.Error("the socket and the file do not have the same value")
	}
	if got := m.do("stat -c '%a %U' /run/iam-token-refresher.sock /run/iam-token-refresher-state /run/iam-token-refresher/bot.token"); got != "600 iam-token-refresher\n700 iam-token-refresher\n600 iam-token-refresher" {
		t.Errorf("modes and owners: %s", got)
	}
	if got := m.do("du -s /var/lib/iam-token-refresher; find /var/lib/iam-token-refresher -type f"); strings.Contains(got, "\n") {
		t.Errorf("something is on a disk: %s", got)
	}
}

func TestStoppingTakesUnderASecondAndIsNoFailure(t *testing.T) {
	m := booted(t)
	m.start()
	begin := time.Now()
	m.do("systemctl stop -q " + unit)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if got := m.property("ExecMainStatus") + m.property("Result"); got != "0success" {
		t.Errorf("it ended with %s", got)
	}
}

func TestWithoutTheCloudTheStartGoesOnAndSaysWhy(t *testing.T) {
	m := booted(t)
	m.broken("iam", "error")
	m.write(configPath, m.usual())
	m.do("systemctl start --no-block " + unit)
	m.await("systemctl show " + unit + " -p StatusText | grep -q 'bot: no token yet'")
	if got := m.property("ActiveState"); got != "activating" {
		t.Errorf("it is %s", got)
	}
	m.sound()
	m.await("systemctl is-active -q " + unit)
	if n := m.number("NRestarts"); n != 0 {
		t.Errorf("%d restarts", n)
	}
	want(t, "status", m.property("StatusText"), "1 token fresh")
}

func TestTheStatusFollowsTheToken(t *testing.T) {
	m := booted(t)
	m.start()
	m.broken("iam", "error")
	_, _ = m.try("iam-token-refresher refresh bot")
	m.await("systemctl show " + unit + " -p StatusText | grep -q 'bot: refresh failing.*token valid for'")
	m.sound()
	m.do("iam-token-refresher refresh bot")
	m.await("systemctl show " + unit + " -p StatusText | grep -q '1 token fresh'")
}

func TestTheMachineBootsThroughAnOutage(t *testing.T) {
	m := booted(t)
	if len(m.reboot) == 0 {
		t.Skip("SYSTEMD_REBOOT does not say how")
	}
	m.start("/run/iam-token-refresher-state", "/var/lib/iam-token-refresher")
	m.do("systemctl enable -q " + unit)
	before := m.do(fileToken)
	m.restartMachine() // the emulator does not come back
	m.await("systemctl is-active -q " + unit)
	if m.do(fileToken) != before || m.do(readSocket) != before {
		t.Error("it serves another value")
	}
	if n := m.number("NRestarts"); n != 0 {
		t.Errorf("%d restarts", n)
	}
	for name, order := range map[string]string{"After": m.property("After"), "Wants": m.property("Wants"), "Requires": m.property("Requires")} {
		if strings.Contains(order, "network") {
			t.Errorf("%s=%s: it waits for the network", name, order)
		}
	}
	begun, err := strconv.Atoi(m.do("systemctl show --value -p UserspaceTimestampMonotonic"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("active %d ms after systemd began", (m.number("ActiveEnterTimestampMonotonic")-begun)/1000)
}

func TestAStateUnderRunIsGoneWithAReboot(t *testing.T) {
	m := booted(t)
	if len(m.reboot) == 0 {
		t.Skip("SYSTEMD_REBOOT does not say how")
	}
	m.start()
	m.restartMachine()
	if got := m.do("ls -A /run/iam-token-refresher /run/iam-token-refresher-state; stat -c %a /run/iam-token-refresher-state"); !strings.HasSuffix(got, "700") || strings.Contains(got, "bot") {
		t.Errorf("after a reboot there is: %s", got)
	}
}

func (m *machine) restartMachine() {
	m.Helper()
	if out, err := command(m, m.reboot); err != nil {
		m.Fatalf("reboot: %v\n%s", err, out)
	}
	m.await("systemctl is-system-running 2>/dev/null | grep -q -e running -e degraded")
}

// quickWatchdog makes the tests of the watchdog short.
func (m *machine) quickWatchdog() {
	m.Helper()
	m.write("/etc/systemd/system/iam-token-refresher.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n")
	m.do("systemctl daemon-reload")
}

func TestAStoppedProcessIsRestartedByTheWatchdog(t *testing.T) {
	m := booted(t)
	m.quickWatchdog()
	m.start()
	m.do("kill -STOP " + m.property("MainPID"))
	m.await("test $(systemctl show " + unit + " --value -p NRestarts) = 1 && systemctl is-active -q " + unit)
	want(t, "log", m.do("journalctl -b --no-pager -u "+unit), "Watchdog timeout")
}

func TestACrashIsRestarted(t *testing.T) {
	m := booted(t)
	m.quickWatchdog()
	m.start()
	m.do("kill -ABRT " + m.property("MainPID")) // what a panic looks like: a trace, and exit code 2
	m.await("test $(systemctl show " + unit + " --value -p NRestarts) = 1 && systemctl is-active -q " + unit)
	want(t, "log at err", m.do("journalctl -b --no-pager -o cat -p err -u "+unit), "goroutine ")
}

func TestAHangingCloudDoesNotTripTheWatchdog(t *testing.T) {
	m := booted(t)
	m.quickWatchdog()
	m.start()
	m.broken("iam", "hang")
	m.broken("tracker", "hang")
	// Three times the watchdog's patience.
	_, _ = m.try("iam-token-refresher refresh bot --timeout 6s")
	if n := m.number("NRestarts"); n != 0 || m.property("ActiveState") != "active" {
		t.Errorf("%d restarts, %s", n, m.property("ActiveState"))
	}
	m.do(readSocket)
}

func TestAHangingDiskDoesNotTripTheWatchdog(t *testing.T) {
	m := booted(t)
	if _, err := m.try("command -v strace"); err != nil {
		t.Skip("there is no strace in the booted system to make the disk hang with")
	}
	m.quickWatchdog()
	m.start()
	// Whatever makes something durable hangs for longer than the test.
	m.do("systemd-run -q --collect --unit=hang strace -f -qq -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=100000000 -p " + m.property("MainPID"))
	m.await("grep -q 'TracerPid:[[:space:]]*[1-9]' /proc/" + m.property("MainPID") + "/status")
	if out, err := m.try("iam-token-refresher refresh bot --timeout 6s"); err == nil {
		t.Errorf("the disk does not hang: %s", out)
	}
	if n := m.number("NRestarts"); n != 0 || m.property("ActiveState") != "active" {
		t.Errorf("%d restarts, %s", n, m.property("ActiveState"))
	}
	m.do(readSocket)
	m.do("systemctl kill -s KILL hang; systemctl restart " + unit)
}

func TestAReloadThatIsRefusedFailsAndChangesNothing(t *testing.T) {
	m := booted(t)
	m.start()
	good := m.usual()
	m.write(configPath, good+"wrong: 1\n")
	if out, err := m.try("systemctl reload " + unit); err == nil {
		t.Errorf("the reload of a broken configuration succeeds: %s", out)
	}
	if got := m.property("ActiveState"); got != "active" {
		t.Errorf("afterwards it is %s", got)
	}
	want(t, "status", m.do("systemctl --no-pager status "+unit), `unknown key "wrong"`, "1 token fresh")
	m.do(readSocket)

	m.write(configPath, strings.Replace(good, "bot.token}", `bot.token, mode: "0644"}`, 1))
	m.do("systemctl reload " + unit)
	if got := m.do("stat -c %a /run/iam-token-refresher/bot.token"); got != "644" {
		t.Errorf("after a good one the file has mode %s", got)
	}
	if got := m.property("ActiveState"); got != "active" {
		t.Errorf("afterwards it is %s", got)
	}
}

func TestTheUnitsAreSoundAndTheSandboxTight(t *testing.T) {
	m := booted(t)
	m.do("cp /usr/share/doc/iam-token-refresher/examples/consumer* /etc/systemd/system/ && getent group bots || groupadd bots")
	if out, err := m.try("systemd-analyze verify iam-token-refresher.service iam-token-refresher.socket consumer.service consumer-renew.path consumer-renew.service 2>&1"); err != nil || out != "" {
		t.Errorf("verify: %v %s", err, out)
	}
	out := m.do("systemd-analyze security --no-pager --offline=true --threshold=12 /lib/systemd/system/iam-token-refresher.service")
	lines := strings.Split(out, "\n")
	t.Log(strings.TrimSpace(lines[len(lines)-1]))
	// Each line that is left is explained in the unit.
	text := m.do("cat /lib/systemd/system/iam-token-refresher.service")
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "✗ "); ok {
			name := strings.NewReplacer("RestrictAddressFamilies=~", "", "(", "", ")", "").Replace(strings.Fields(rest)[0])
			for part := range strings.SplitSeq(name, "|") {
				part, _, _ = strings.Cut(part, "/")
				part = strings.TrimPrefix(part, "AF_INET|")
				want(t, "what the unit explains", text, "#   ", part)
			}
		}
	}
}

func TestTheJournalHasPrioritiesAndFields(t *testing.T) {
	m := booted(t)
	m.start()
	m.broken("iam", "error")
	_, _ = m.try("iam-token-refresher refresh bot")
	of := "journalctl --no-pager _SYSTEMD_INVOCATION_ID=" + m.property("InvocationID")
	want(t, "fields", m.do(of+" -o json MESSAGE='published token=bot version=1 expires_in=12h0m0s verdict=accepted reason=\"there is no value yet\"'"),
		`"TOKEN":"bot"`, `"VERDICT":"accepted"`, `"VERSION":"1"`, `"PRIORITY":"6"`, `"SYSLOG_IDENTIFIER":"iam-token-refresher"`)
	warnings := m.do(of + " -o cat -p warning")
	want(t, "warnings", warnings, "token=bot")
	if strings.Contains(warnings, "published") {
		t.Errorf("not a warning: %s", warnings)
	}
	if all := m.do(of + " -o cat -a"); strings.Contains(all, "\x1b") || regexp.MustCompile(`\d\d:\d\d:\d\d`).MatchString(all) {
		t.Errorf("colours or times: %s", all)
	}
}
