package emulator

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// maxSocketPath is the longest path that a Unix socket can have everywhere.
const maxSocketPath = 103

// top is the part of both configurations that says where everything is.
func (e *Emulator) top() string {
	p := e.endpoints
	return fmt.Sprintf(`endpoints:
  iam: %q
  metadata: %q
  token_exchange: %q
  oauth: %q
  tracker: %q
ca_file: %s
`, p.IAM, p.Metadata, p.TokenExchange, p.OAuth, p.Tracker, quoted(e.path(fileCA)))
}

// schedules are intervals for renewing and probing that fit the lifetime of
// tokens: with the usual one, the daemon's own defaults.
func (e *Emulator) schedules() (refresh, probe time.Duration) {
	refresh = min(time.Hour, e.o.TokenLifetime/3)
	probe = min(15*time.Minute, e.o.TokenLifetime/12)
	whole := func(d time.Duration) time.Duration { return max(time.Second, d.Truncate(time.Second)) }
	return whole(refresh), whole(probe)
}

// short is a duration without its zero parts: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := strings.TrimSuffix(d.String(), "m0s")
	if s != d.String() {
		s += "m"
	}
	if t := strings.TrimSuffix(s, "h0m"); t != s {
		s = t + "h"
	}
	return s
}

// config is config.yaml: one token with every kind of sink.
func (e *Emulator) config() (string, error) {
	listen, err := freePort()
	if err != nil {
		return "", err
	}
	refresh, probe := e.schedules()
	socket := "- socket: {path: " + quoted(e.path("itr.sock")) + "}"
	if len(e.path("itr.sock")) > maxSocketPath {
		socket = "# No socket: the path of this directory is too long for one."
	}
	return fmt.Sprintf(`# Written by iam-emulator at its start; it is overwritten at the next one.
# Try it with: iam-token-refresher run --config %[1]s
tokens:
  - name: bot
    source: {service_account_key: {file: %[2]s}}
    refresh: {schedule: "@every %[3]s"}
    probe: {tracker: {cloud_org_id: %[4]s}, schedule: "@every %[5]s"}
    sinks:
      - file: {path: %[6]s}
      - env_file: {path: %[7]s, variables: {YC_TOKEN: "{{.Value}}"}}
      %[8]s
      - metadata: {listen: %[9]q, default: true}
state_dir: %[10]s
%[11]s`,
		e.path(fileConfig), quoted(e.path(fileKey)), short(refresh), CloudOrgID, short(probe),
		quoted(e.path("bot.token")), quoted(e.path("bot.env")), socket, listen,
		quoted(e.path(dirState)), e.top()), nil
}

// accountsConfig is config-accounts.yaml: a token with a file for each account.
func (e *Emulator) accountsConfig(names []string) string {
	refresh, probe := e.schedules()
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by iam-emulator --accounts %d at its start; overwritten at the next one.
# Try it with: iam-token-refresher run --config %s
limits: {mints: 16, probes_per_second: 0}
state_dir: %s
%stokens:
`, len(names), e.path(fileAccountsConfig), quoted(e.path(dirState)), e.top())
	for _, name := range names {
		fmt.Fprintf(&b, `  - name: account-%s
    source: {service_account_key: {file: %s}}
    refresh: {schedule: "@every %s"}
    probe: {tracker: {cloud_org_id: %s}, schedule: "@every %s"}
    sinks: [{file: {path: %s}}]
`, name, quoted(e.path(dirKeys, name+".json")), short(refresh), CloudOrgID, short(probe), quoted(e.path(dirTokens, name+".token")))
	}
	return b.String()
}

// freePort finds a loopback address that the daemon can listen on. Somebody
// else may take it before the daemon does; the system does not give it out
// again soon, though.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port for the daemon: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}
