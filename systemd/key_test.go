package systemd_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

func command(m *machine, argv []string) (string, error) {
	ctx, cancel := context.WithCancel(m.Context())
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	return string(out), err
}

func TestTheKeyComesFromACredential(t *testing.T) {
	for _, c := range []struct{ name, example, make string }{
		{"plain", "credential.conf", "install -m 0600 /var/tmp/cloud/key.json /etc/iam-token-refresher/bot.json"},
		{"encrypted", "credential-encrypted.conf", "systemd-creds encrypt --with-key=host --name=bot.json /var/tmp/cloud/key.json /etc/iam-token-refresher/bot.json.cred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := booted(t)
			m.do("rm -f /etc/iam-token-refresher/bot.json; " + c.make)
			m.dropIn(c.example, unit)
			m.start("/etc/iam-token-refresher/bot.json", `"${CREDENTIALS_DIRECTORY}/bot.json"`)
			value := m.do(readSocket + " -f")
			if got := m.do("journalctl -b --no-pager -o cat -p warning _SYSTEMD_INVOCATION_ID=" + m.property("InvocationID")); got != "" {
				t.Errorf("warnings: %s", got)
			}
			if c.name != "plain" {
				return
			}
			// A restart with the key: the value carries over. With one
			// that the cloud does not know, too.
			m.do("systemctl restart " + unit)
			if m.do(readSocket+" -f") != value {
				t.Error("a restart gives another value")
			}
			m.do(`sed -Ei 's/("id": *"....)/\1zz/' /etc/iam-token-refresher/bot.json; systemctl restart ` + unit)
			if m.do(readSocket+" -f") != value {
				t.Error("a key that the cloud does not know gives another value")
			}
			m.do("echo garbage >/etc/iam-token-refresher/bot.json; systemctl restart " + unit)
			if m.do(readSocket+" -f") != value {
				t.Error("a broken key gives another value")
			}
			m.await("systemctl show " + unit + " --value -p StatusText | grep -q 'key file .*bot.json'")
		})
	}
}

func TestAPlainKeyIsFollowed(t *testing.T) {
	m := booted(t)
	m.start()
	m.do("sed 's/$/ /' /etc/iam-token-refresher/bot.json > /etc/iam-token-refresher/new && chown iam-token-refresher /etc/iam-token-refresher/new && chmod 600 /etc/iam-token-refresher/new && mv /etc/iam-token-refresher/new /etc/iam-token-refresher/bot.json")
	m.await("journalctl -b --no-pager -o cat _SYSTEMD_INVOCATION_ID=" + m.property("InvocationID") + " | grep -q 'key changed'")
}

func TestAGroupReadsTheFileAndNobodyElse(t *testing.T) {
	m := booted(t)
	m.do("getent group bots >/dev/null || groupadd bots; id robot >/dev/null 2>&1 || useradd -G bots robot")
	m.dropIn("groups.conf", unit)
	m.start("bot.token}", "bot.token, group: bots}")
	if got := m.do("stat -c '%a %U %G' /run/iam-token-refresher/bot.token"); got != "640 iam-token-refresher bots" {
		t.Errorf("the file is %s", got)
	}
	m.do("setpriv --reuid=robot --regid=robot --init-groups " + fileToken + " >/dev/null")
	if out, err := m.try("setpriv --reuid=nobody --regid=nogroup --clear-groups " + fileToken); err == nil {
		t.Errorf("anybody may read: %s", out)
	}
}

func TestCheckSaysWhatTheSandboxExcludes(t *testing.T) {
	m := booted(t)
	const sandboxed = "systemd-run -q --pipe --wait --collect -p User=iam-token-refresher -p ProtectSystem=strict -p ProtectHome=yes -p ReadWritePaths=/run/iam-token-refresher iam-token-refresher check"
	for _, c := range []struct{ from, to, says string }{
		{"bot.token}", "bot.token, owner: daemon}", "only root may give"},
		{"{service_account_key: {file: /etc/iam-token-refresher/bot.json}}", `{command: {argv: [sh, -c, "mkdir ~/.config"]}}`, "cannot write to its home"},
	} {
		m.write(configPath, m.usual(c.from, c.to))
		out, err := m.try(sandboxed)
		if err == nil {
			t.Errorf("check finds nothing: %s", out)
		}
		want(t, "check", out, c.says)
	}
}

func TestTheConsumerGetsEachVersionOnce(t *testing.T) {
	m := booted(t)
	m.do("getent group bots >/dev/null || groupadd bots")
	m.dropIn("groups.conf", unit)
	m.do("cp /usr/share/doc/iam-token-refresher/examples/consumer* /etc/systemd/system/ && systemctl daemon-reload")
	m.write(configPath, m.usual("bot.env,", "bot.env, group: bots,"))
	// The consumer brings up the refresher, and waits for the token.
	m.do("systemctl enable -q consumer.service consumer-renew.path; systemctl start consumer.service consumer-renew.path")
	environment := `tr '\0' '\n' </proc/$(systemctl show consumer.service --value -p MainPID)/environ | sed -n s/^YC_TOKEN=//p`
	if m.do(environment) != m.do(fileToken) {
		t.Error("the consumer does not have the token")
	}
	cursor := m.do("journalctl --sync; journalctl -n 1 -o cat --show-cursor | sed -n 's/^-- cursor: //p'")
	starts := "journalctl --sync; journalctl --no-pager -o cat --after-cursor='" + cursor + "' _PID=1 UNIT=consumer.service"
	for range 3 {
		want(t, "refresh", m.do("iam-token-refresher refresh bot"), "a new version is published")
		m.await(`test "$(` + environment + `)" = "$(` + fileToken + `)"`)
	}
	m.do("systemctl restart " + unit) // the same version again
	if log := m.do(starts); strings.Count(log, "Started consumer.service") != 3 {
		t.Errorf("3 new versions should be 3 restarts:\n%s", log)
	}
}
