package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func fromFlags(values map[string]string) (*Config, error) {
	return FromFlags(values, fakeKinds(), LoadOptions{LookupEnv: fakeEnv})
}

func TestFlagsDescribeOneToken(t *testing.T) {
	t.Parallel()
	c, err := fromFlags(map[string]string{
		"key-file": "/etc/it's/bot.json", "impersonate": "ajepg0mjt06siuj00000",
		"cloud-org-id": "bpfaidqca8vd0m5jl3fp", "ITR_PROBE_SCHEDULE": "@every 5m", "probe-required": "true",
		"schedule": "@every 30m", "jitter": "1m", "ITR_BEFORE_EXPIRY": "2h",
		"file": "/run/itr/bot.token", "file-mode": "0640", "file-group": "bots", "file-format": "header",
		"env-file": "${CREDENTIALS_DIRECTORY}/bot.env", "ITR_SOCKET_PATH": "/run/itr.sock", "socket-mode": "0666",
		"metadata-listen": "127.0.0.1:8775", "ITR_FILE_OWNER": "",
		"state-dir": "/run/itr/state", "status-listen": ":9117", "log-level": "debug", "endpoint-iam": "localhost:1",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Tokens: []Token{{
			Name: "default", Required: true,
			Source:  Source{Kind: "service_account_key", Options: &keySource{File: "/etc/it's/bot.json"}, Impersonate: "ajepg0mjt06siuj00000"},
			Refresh: Refresh{Schedule: mustSchedule("@every 30m"), Jitter: time.Minute, BeforeExpiry: 2 * time.Hour},
			Probe: &Probe{
				Kind: "tracker", Options: &trackerProbe{CloudOrgID: "bpfaidqca8vd0m5jl3fp"},
				Schedule: mustSchedule("@every 5m"), Timeout: 10 * time.Second, Grace: 30 * time.Second, Required: true,
			},
			Sinks: []Sink{
				{Kind: "file", Options: &fileSink{Path: "/run/itr/bot.token", Format: "header", fileCommon: fileCommon{Mode: "0640", Group: "bots"}}},
				{Kind: "env_file", Options: &envFileSink{Path: "/run/credentials/itr/bot.env", Variables: map[string]string{"YC_TOKEN": "{{.Value}}"}, fileCommon: fileCommon{Mode: "0600"}}},
				{Kind: "socket", Options: &socketSink{Path: "/run/itr.sock", fileCommon: fileCommon{Mode: "0666"}}},
				{Kind: "metadata", Options: &metadataSink{Listen: "127.0.0.1:8775"}},
			},
		}},
		StateDir: "/run/itr/state", Status: StatusOptions{Listen: ":9117"}, Log: LogOptions{Level: "debug", Format: "auto"},
		Exec: defaultExec(), Limits: Limits{Mints: 16, ProbesPerSecond: 5}, Endpoints: Endpoints{IAM: "localhost:1"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c, want)
	}
}

func TestEverySourceCanBeAFlag(t *testing.T) {
	t.Parallel()
	for kind, values := range map[string]map[string]string{
		"metadata":          {"metadata": "true"},
		"workload_identity": {"workload-identity-account": "ajepg0mjt06siuj00000", "workload-identity-token-file": "/var/run/token"},
		"oauth_token":       {"ITR_OAUTH_TOKEN_FILE": "/etc/oauth"},
		"oauth":             {"oauth-client-id": "5f1e", "ITR_OAUTH_CLIENT_SECRET_FILE": "/etc/secret", "oauth-login-file": "/var/lib/login"},
		"command":           {"command": "yc iam  create-token --format json", "metadata": "false"},
		"token_file":        {"token-file": "/run/other/token"},
	} {
		values["file"], values["no-probe"], values["name"] = "/run/itr/bot", "true", "bot"
		c, err := fromFlags(values)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		token := c.Tokens[0]
		if token.Source.Kind != kind || token.Name != "bot" || !token.Probe.None {
			t.Errorf("%s: got %+v", kind, token)
		}
		if o, ok := token.Source.Options.(*commandSource); ok && !reflect.DeepEqual(o.Argv, []string{"yc", "iam", "create-token", "--format", "json"}) {
			t.Errorf("got %q", o.Argv)
		}
	}
}

func TestAFlagGoesBeforeItsVariable(t *testing.T) {
	t.Parallel()
	c, err := fromFlags(map[string]string{"metadata": "true", "file": "/run/flag", "ITR_FILE": "/run/variable"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Tokens[0].Sinks[0].Options.(*fileSink).Path; got != "/run/flag" {
		t.Errorf("got %s", got)
	}
}

func TestMistakesInFlagsNameThemAndShowNoLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		values map[string]string
		want   string
	}{
		"nothing": {nil, `flags: no source; give one of: --key-file, --metadata, --workload-identity-account, --workload-identity-token-file, --oauth-token-file, --oauth-client-id, --command or --token-file

flags: no sink, so that nobody would get the token; give at least one of: --file, --env-file, --socket or --metadata-listen`},
		"two sources": {
			map[string]string{"ITR_KEY_FILE": "/k", "metadata": "1", "file": "/f"},
			"--metadata: is a second source beside ITR_KEY_FILE: there can be one",
		},
		"half a source": {
			map[string]string{"workload-identity-token-file": "/t", "file": "/f"},
			"flags: source.workload_identity.service_account_id: is missing",
		},
		"values that are wrong": {
			map[string]string{"key-file": "k", "ITR_FILE": "/tmp", "schedule": "@every 1ms", "file-mode": "888", "cloud-org-id": "a", "org-id": "1"},
			`--key-file: "k" is a relative path: write it from / on

--org-id: stands beside cloud_org_id: give the one that the organization has

--schedule: "@every 1ms" is too short: the shortest interval is "@every 1s"

ITR_FILE: "/tmp" is a directory: name a file in it`,
		},
		"a mode": {
			map[string]string{"metadata": "1", "file": "/f", "file-mode": "888"},
			`--file-mode: "888" is not an octal file mode such as "0640"`,
		},
		"flags that refine nothing": {
			map[string]string{"metadata": "1", "file": "/f", "socket-mode": "0600", "probe-schedule": "@daily"},
			`--probe-schedule: means nothing without --cloud-org-id or --org-id

--socket-mode: means nothing without --socket`,
		},
		"a probe and none": {
			map[string]string{"metadata": "1", "file": "/f", "no-probe": "1", "org-id": "1"},
			"--no-probe: contradicts --org-id",
		},
		"one path twice": {
			map[string]string{"metadata": "1", "file": "/f/x", "env-file": "/f/x"},
			"--env-file: is also used by file: each sink needs its own",
		},
		"a loop": {
			map[string]string{"token-file": "/f/x", "file": "/f/x"},
			"--token-file: is one of our own sinks, of file: a token cannot be its own source",
		},
		"a switch that is neither": {
			map[string]string{"ITR_METADATA": "maybe", "key-file": "/k", "file": "/f"},
			"ITR_METADATA: must be true or false",
		},
		"an empty flag": {
			map[string]string{"metadata": "1", "file": ""},
			"--file: has an empty value",
		},
		"more YAML than a value": {
			map[string]string{"metadata": "1", "file": "/f\nstate_dir: /x"},
			"--file: holds a line break or another control character",
		},
		"a secret in the place of its file": {
			map[string]string{"oauth-token-file": "y0_AgAAAAAaBbCcDdEeFf", "file": "/f"},
			"--oauth-token-file: this is a relative path: write it from / on",
		},
		"an unknown flag": {
			map[string]string{"metadata": "1", "file": "/f", "ITR_FYLE": "/x"},
			"ITR_FYLE: there is no such flag or variable",
		},
	} {
		_, err := fromFlags(c.values)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, c.want)
		}
		if all := Errors(nil); !errors.As(err, &all) {
			t.Errorf("%s: a %T", name, err)
		}
	}
}

func TestFlagsAreDistinctAndTheirOptionsExist(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{EnvConfig: true, EnvSocket: true, "config": true}
	for _, f := range Flags() {
		if seen[f.Name] || seen[f.Env] || f.Help == "" || !strings.HasPrefix(f.Env, "ITR_") {
			t.Errorf("flag %q, variable %q", f.Name, f.Env)
		}
		seen[f.Name], seen[f.Env] = true, true
	}
	if err := CheckFlags(fakeKinds()); err != nil {
		t.Error(err)
	}
	kinds := fakeKinds()
	delete(kinds.Sources, "command")
	if CheckFlags(kinds) == nil {
		t.Error("a kind is gone and nobody noticed")
	}
}
