package systemd_test

import (
	"os"
	"testing"
)

func TestRemovingLeavesTheConfigurationAndPurgingNothing(t *testing.T) {
	m := booted(t)
	m.start()
	m.do("systemctl enable -q " + unit + "; dpkg -r iam-token-refresher")
	if got := m.do("ls /etc/iam-token-refresher; ls -d /run/iam-token-refresher* 2>/dev/null || :; systemctl is-active " + unit + " iam-token-refresher.socket || :"); got != "bot.json\nca.pem\nconfig.yaml\ninactive\ninactive" {
		t.Errorf("after the removal there is: %s", got)
	}
	m.do("dpkg --purge iam-token-refresher")
	if left := m.do(ours + " | LC_ALL=C comm -23 - /var/tmp/before"); left != "" {
		t.Errorf("after the purge there is:\n%s", left)
	}
	m.do("rm /var/tmp/itr.deb")
}

func TestTheRPMInstallsUpgradesAndGoes(t *testing.T) {
	m := bare(t)
	if _, err := m.try("command -v rpm"); err != nil {
		t.Skip("there is no rpm in the booted system")
	}
	if _, err := m.try("dpkg-query -W iam-token-refresher"); err == nil {
		t.Skip("the other package is installed: this runs after its removal")
	}
	m.push(os.Getenv("SYSTEMD_RPM"), "/var/tmp/itr.rpm")
	m.do("rpm --install --nodeps /var/tmp/itr.rpm")
	m.cloud()
	m.start()
	value, before := m.do(fileToken), m.property("MainPID")
	m.do("rpm --upgrade --force --nodeps /var/tmp/itr.rpm")
	m.await("test $(systemctl show " + unit + " --value -p MainPID) != " + before + " && systemctl is-active -q " + unit)
	if m.do(fileToken) != value {
		t.Error("an upgrade gives another value")
	}
	m.do("rpm --erase --nodeps iam-token-refresher")
	if got := m.do("ls /etc/iam-token-refresher; ls -d /run/iam-token-refresher* 2>/dev/null || :; systemctl is-active " + unit + " || :"); got != "bot.json\nca.pem\nconfig.yaml.rpmsave\ninactive" {
		t.Errorf("after the removal there is: %s", got)
	}
	m.do("rm -r /etc/iam-token-refresher /var/tmp/itr.rpm /var/lib/rpm; userdel iam-token-refresher")
}
