package systemd_test

import "testing"

func TestAnUpgradeRefusesNobody(t *testing.T) {
	m := booted(t)
	m.start()
	before := m.property("MainPID")
	m.underLoad(func() {
		m.do("dpkg -i /var/tmp/itr.deb")
		m.await("test $(systemctl show " + unit + " --value -p MainPID) != " + before + " && systemctl is-active -q " + unit)
	})
}

func TestTheManualPagesAreSound(t *testing.T) {
	m := booted(t)
	for _, page := range []string{"man1/iam-token-refresher.1", "man5/iam-token-refresher.yaml.5"} {
		out := m.do("zcat /usr/share/man/" + page + ".gz | MANWIDTH=80 man --warnings=all -l - 2>&1 >/dev/null")
		if out != "" {
			t.Errorf("%s: %s", page, out)
		}
	}
	want(t, "the page", m.do("MANWIDTH=80 man iam-token-refresher.yaml | col -b"), "service_account_key", "before_expiry")
}
