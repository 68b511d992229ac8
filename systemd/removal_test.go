package systemd_test

import "testing"

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
