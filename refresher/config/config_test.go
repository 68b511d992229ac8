package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

// with returns the good configuration with a part replaced.
func with(t testing.TB, old, replacement string) string {
	t.Helper()
	if !strings.Contains(good, old) {
		t.Fatalf("%q is no part of the good configuration", old)
	}
	return strings.Replace(good, old, replacement, 1)
}

func mustParse(t testing.TB, text string) *Config {
	t.Helper()
	c, err := parse(text)
	if err != nil {
		t.Fatalf("%s\n%s", err, text)
	}
	return c
}

func TestTheExampleOfTheDocumentationIsUnderstood(t *testing.T) {
	t.Parallel()
	got := mustParse(t, good)
	want := &Config{
		Tokens: []Token{{
			Name:     "bot",
			Required: true,
			Source:   Source{Kind: "service_account_key", Options: &keySource{File: "/etc/iam-token-refresher/bot.json"}},
			Refresh:  Refresh{Schedule: mustSchedule("@every 1h"), BeforeExpiry: 4 * time.Hour},
			Probe: &Probe{
				Kind: "tracker", Options: &trackerProbe{CloudOrgID: "bpfaidqca8vd0m5jl3fp"},
				Schedule: mustSchedule("@every 15m"), Timeout: 10 * time.Second, Grace: 30 * time.Second,
			},
			Sinks: []Sink{
				{Kind: "file", Options: &fileSink{Path: "/run/iam-token-refresher/bot.token", Format: "raw", fileCommon: fileCommon{Mode: "0640", Group: "bots"}}},
				{Kind: "env_file", Options: &envFileSink{Path: "/run/iam-token-refresher/bot.env", Variables: map[string]string{"YC_TOKEN": "{{.Value}}"}, fileCommon: fileCommon{Mode: "0600"}}},
				{Kind: "socket", Options: &socketSink{Path: "/run/iam-token-refresher.sock", Allow: &allow{Users: []string{"grafana"}, Groups: []string{"bots"}}, fileCommon: fileCommon{Mode: "0660"}}},
				{Kind: "metadata", Options: &metadataSink{Listen: "127.0.0.1:8775", Default: true}},
			},
		}},
		StateDir: "/run/iam-token-refresher-state",
		Status:   StatusOptions{Listen: "127.0.0.1:9117"},
		Log:      LogOptions{Level: "info", Format: "auto"},
		Exec:     defaultExec(), Limits: Limits{Mints: 16, ProbesPerSecond: 5},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestAFileInUTF16IsNamed(t *testing.T) {
	t.Parallel()
	if _, err := parse("\xff\xfet\x00o\x00"); err == nil || err.Error() != "bot.yaml: is UTF-16, as PowerShell writes it: save it as UTF-8" {
		t.Errorf("got %v", err)
	}
}

func TestTwoReadingsOfOneFileAreDeeplyEqual(t *testing.T) {
	t.Parallel()
	text := with(t, `schedule: "@every 1h"`, `cron: "TZ=Europe/Moscow 17 * * * *"`)
	if a, b := mustParse(t, text), mustParse(t, text); !reflect.DeepEqual(a, b) {
		t.Error("a reload of the same file looks like a change")
	}
}

func TestWhatMayBeWrittenDifferently(t *testing.T) {
	t.Parallel()
	base := mustParse(t, good)
	for name, text := range map[string]string{
		"Windows' line ends":                     strings.ReplaceAll(good, "\n", "\r\n"),
		"a byte order mark":                      "\ufeff" + good,
		"a document that is marked":              "# ours\n---\n" + good + "...\n",
		"paths that are not clean":               with(t, "/run/iam-token-refresher/bot.token", "/run//iam-token-refresher/./bot.token"),
		"the other key for a schedule":           with(t, "schedule: \"@every 1h\"", "cron: \"@every 1h\""),
		"anchors and aliases":                    with(t, "users: [grafana], groups: [bots]", "users: &who [grafana], groups: [bots]"),
		"a merged map":                           with(t, "{level: info, format: auto}", "{<<: {level: debug, format: auto}, level: info}"),
		"defaults that are spelled out":          good + "limits: {mints: 16, probes_per_second: 5.0}\n",
		"a section with all its lines commented": good + "limits:\n#  mints: 3\n",
		"block style": `
tokens:
- name: "bot"
  source:
    service_account_key:
      file: /etc/iam-token-refresher/bot.json
  refresh:
    schedule: "@every 1h"
    before_expiry: 4h0m
  probe:
    tracker:
      cloud_org_id: bpfaidqca8vd0m5jl3fp
  sinks:
  - file:
      path: /run/iam-token-refresher/bot.token
      mode: '0640'
      group: bots
  - env_file:
      path: /run/iam-token-refresher/bot.env
      variables:
        YC_TOKEN: "{{.Value}}"
  - socket:
      path: /run/iam-token-refresher.sock
      mode: "0660"
      allow:
        users:
        - grafana
        groups: [bots]
  - metadata: {"listen": "127.0.0.1:8775", "default": true}
state_dir: /run/iam-token-refresher-state
status:
  listen: 127.0.0.1:9117
`,
	} {
		if c := mustParse(t, text); !reflect.DeepEqual(c, base) && !reflect.DeepEqual(describeConfig(c), describeConfig(base)) {
			t.Errorf("%s changes the meaning:\n%+v\n%+v", name, describeConfig(c), describeConfig(base))
		}
	}
}

// describeConfig leaves out how schedules and so on are spelled.
func describeConfig(c *Config) []any {
	all := []any{c.StateDir, c.Status, c.Log, c.Limits, c.Endpoints}
	for _, t := range c.Tokens {
		all = append(all, t.Name, t.Source.Kind, t.Source.Options, t.Refresh.Schedule.Interval(), t.Refresh.BeforeExpiry, t.Probe.Options)
		for _, s := range t.Sinks {
			all = append(all, s.Kind, s.Options)
		}
	}
	return all
}

func TestAKindWithoutAValueHasItsDefaults(t *testing.T) {
	t.Parallel()
	c := mustParse(t, "tokens:\n  - name: bot\n    source:\n      metadata:\n    sinks:\n      - file: {path: /x/y}\n")
	if s := c.Tokens[0].Source; s.Kind != "metadata" || !reflect.DeepEqual(s.Options, &metadataSource{}) {
		t.Errorf("got %+v", s)
	}
	if c.Tokens[0].Probe != nil {
		t.Error("a probe appeared")
	}
}

func TestNoProbeCanBeMeant(t *testing.T) {
	t.Parallel()
	c := mustParse(t, with(t, "{tracker: {cloud_org_id: bpfaidqca8vd0m5jl3fp}}", "none"))
	if p := c.Tokens[0].Probe; p == nil || !p.None || p.Options != nil {
		t.Errorf("got %+v", p)
	}
}

func TestAProbesCommonOptionsStandBesideItsKind(t *testing.T) {
	t.Parallel()
	c := mustParse(t, with(t, "probe: {", `probe: {schedule: "@daily", timeout: 3s, grace: 0s, required: true, `))
	p := c.Tokens[0].Probe
	if p.Schedule.String() != "@daily" || p.Timeout != 3*time.Second || p.Grace != 0 || !p.Required {
		t.Errorf("got %+v", p)
	}
}

func TestTokensCanShareASocketAndAreToldApartInMessages(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
tokens:
  - &base
    name: a
    required: false
    source: &from {service_account_key: {file: "${CREDENTIALS_DIRECTORY}/key.json"}, impersonate: ajepg0mjt06siuj00000}
    sinks:
      - socket: &socket {path: /run/itr.sock, mode: "0666", default: true}
  - <<: *base
    name: b
    sinks:
      - socket: {<<: *socket, default: false}
  - name: c
    source: *from
    sinks: [{metadata: {listen: "127.0.0.1:1"}}]
`)
	if len(c.Tokens) != 3 || c.Tokens[1].Required || c.Tokens[1].Name != "b" {
		t.Fatalf("got %+v", c.Tokens)
	}
	for _, token := range c.Tokens {
		if s := token.Source; s.Impersonate != "ajepg0mjt06siuj00000" || s.Options.(*keySource).File != "/run/credentials/itr/key.json" {
			t.Errorf("token %s: got %+v", token.Name, s.Options)
		}
	}
}

func TestVariablesExpandInPathsAlone(t *testing.T) {
	t.Parallel()
	c := mustParse(t, with(t, "/run/iam-token-refresher/bot.token", `"${CREDENTIALS_DIRECTORY}/a$$b"`))
	if got := c.Tokens[0].Sinks[0].Options.(*fileSink).Path; got != "/run/credentials/itr/a$b" {
		t.Errorf("got %q", got)
	}
	c = mustParse(t, with(t, "group: bots", `group: "${CREDENTIALS_DIRECTORY}"`))
	if got := c.Tokens[0].Sinks[0].Options.(*fileSink).Group; got != "${CREDENTIALS_DIRECTORY}" {
		t.Errorf("got %q", got)
	}
}

func TestEndpointsComeInOneForm(t *testing.T) {
	t.Parallel()
	c := mustParse(t, good+`
endpoints:
  iam: https://iam.example.com:443
  token_exchange: auth.example.com:8443
  metadata: 169.254.169.254
  oauth: http://localhost:8080/
  tracker: http://[::1]:8080/base/
`)
	want := Endpoints{
		IAM: "iam.example.com:443", TokenExchange: "https://auth.example.com:8443",
		Metadata: "http://169.254.169.254", OAuth: "http://localhost:8080", Tracker: "http://[::1]:8080/base",
	}
	if c.Endpoints != want {
		t.Errorf("got  %+v\nwant %+v", c.Endpoints, want)
	}
}

func TestOnePathInTwoSpellingsIsFoundThroughSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real/out", filepath.Join(dir, "in")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real/out"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := "tokens:\n- name: a\n  source: {metadata: }\n  sinks: [{file: {path: " + dir + "/real/out}}]\n"
	for name, more := range map[string]string{
		"a sink":   "- name: b\n  source: {metadata: }\n  sinks: [{file: {path: " + dir + "/link/out}}]\n",
		"a source": "- name: b\n  source: {token_file: {path: " + dir + "/in}}\n  sinks: [{file: {path: /x/y}}]\n",
		"a key":    "- name: b\n  source: {service_account_key: {file: " + dir + "/link/out}}\n  sinks: [{file: {path: /x/y}}]\n",
		"a CA":     "ca_file: " + dir + "/link/out\n",
	} {
		if _, err := parse(text + more); err == nil || !strings.Contains(err.Error(), `token "a" (line 4)`) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestListenersThatKeepNobodyOutAreAccepted(t *testing.T) {
	t.Parallel()
	_, err := parse(`tokens:
- {name: a, source: {metadata: }, sinks: [{metadata: {listen: "127.0.0.1:8775"}}, {proxy: {listen: "127.0.0.2:8775"}}]}
- {name: b, source: {metadata: }, sinks: [{metadata: {listen: "127.0.0.1:8775"}}, {proxy: {listen: "[::1]:8775"}}]}
- {name: c, source: {metadata: }, sinks: [{metadata: {listen: "127.0.0.1:0"}}, {proxy: {listen: /run/a:8775}}]}
status: {listen: ":0"}
`)
	if err != nil {
		t.Error(err)
	}
}

func TestTheConfigurationIsNoTokensFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "bot.yaml")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	text := "tokens:\n- name: bot\n  source: {SOURCE}\n  sinks: [{file: {path: PATH}}]\n"
	for _, c := range []struct{ source, path, want string }{
		{"metadata: {}", link, "4:25: token \"bot\": sinks.file.path: is the configuration itself, which would be overwritten: choose another path"},
		{"metadata: {}", real, "4:25: token \"bot\": sinks.file.path: is the configuration itself"},
		{"token_file: {path: " + real + "}", "/run/itr/bot", "3:31: token \"bot\": source.token_file.path: is the configuration itself: name a file of its own"},
	} {
		if err := os.WriteFile(real, []byte(strings.NewReplacer("SOURCE", c.source, "PATH", c.path).Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(link, fakeKinds(), LoadOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v", c.source, c.path, err)
		}
	}
}

func TestAFileThatCannotBeReadIsExplained(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.yaml"), fakeKinds(), LoadOptions{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml: there is no such file") {
		t.Errorf("got %v", err)
	}
	_, err = Load(dir, fakeKinds(), LoadOptions{})
	if all := Errors(nil); !errors.As(err, &all) || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("got %v", err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, make([]byte, maxBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Load(huge, fakeKinds(), LoadOptions{}); err == nil || !strings.Contains(err.Error(), "is larger than 4 MB") {
		t.Errorf("got %v", err)
	}
}

func TestLoadReadsAFile(t *testing.T) {
	t.Setenv("ITR_TEST_DIRECTORY", "/run/here")
	path := filepath.Join(t.TempDir(), "bot.yaml")
	text := with(t, "/etc/iam-token-refresher/bot.json", `"${ITR_TEST_DIRECTORY}/bot.json"`)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, fakeKinds(), LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Tokens[0].Source.Options.(*keySource).File; got != "/run/here/bot.json" {
		t.Errorf("got %q", got)
	}
}

func TestAliasesThatMultiplyAreStopped(t *testing.T) {
	t.Parallel()
	text := "tokens:\n- &a0 {x0: 1, x1: 2, x2: 3, x3: 4}\n"
	for i := range 30 {
		text += strings.ReplaceAll("- &aN {<<: [*aP, *aP, *aP, *aP, *aP]}\n", "N", string(rune('A'+i)))
		if i == 0 {
			text = strings.ReplaceAll(text, "*aP", "*a0")
		} else {
			text = strings.ReplaceAll(text, "*aP", "*a"+string(rune('A'+i-1)))
		}
	}
	start := time.Now()
	_, err := parse(text)
	if err == nil {
		t.Fatal("accepted")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	text = "tokens:\n- &t {name: a, source: {metadata: }, sinks: [{file: {path: /x}}]}\n" + strings.Repeat("- *t\n", 60_000)
	if _, err = parse(text); err == nil || !strings.Contains(err.Error(), "aliases (*) repeat too much") {
		t.Errorf("got %.300v", err)
	}
}

// quotedMode decodes itself from the text as it is written.
type quotedMode string

func (m *quotedMode) UnmarshalYAML(written []byte) error {
	if written[0] != '"' {
		return &refresher.Invalid{Field: "x", Problem: "must be in quotes"}
	}
	*m = quotedMode(written)
	return nil
}

type quotedOptions struct {
	Mode quotedMode `yaml:"mode"`
}

func (*quotedOptions) Validate() error { return nil }

func TestScalarsThatDecodeThemselvesSeeTheirQuotes(t *testing.T) {
	t.Parallel()
	kinds := fakeKinds()
	kinds.Sources["quoted"] = Kind{New: func() Options { return &quotedOptions{} }}
	text := "tokens:\n- name: a\n  source: {quoted: {mode:   X }}\n  sinks: [{file: {path: /x/y}}]\n"
	c, err := Parse("f", []byte(strings.Replace(text, "X", `"0640"`, 1)), kinds, LoadOptions{})
	if err != nil || c.Tokens[0].Source.Options.(*quotedOptions).Mode != `"0640"` {
		t.Errorf("got %+v, %v", c, err)
	}
	for value, want := range map[string]string{"0640": "mode: must be in quotes", "[1]": "mode: must be text, not a list"} {
		_, err = Parse("f", []byte(strings.Replace(text, "X", value, 1)), kinds, LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
	if !strings.Contains(string(Schema(kinds)), `"quoted"`) {
		t.Error("the schema has no such kind")
	}
}

func TestWhatTheMachineLacksIsShownAtItsLine(t *testing.T) {
	t.Parallel()
	opt := LoadOptions{Try: func(c *Config) error {
		var errs []error
		for _, s := range c.Tokens[0].Sinks {
			if f, ok := s.Options.(*fileSink); ok && f.Group == "bots" {
				errs = append(errs, &Unfit{Of: f, Err: &refresher.Invalid{Field: "group", Problem: `there is no group "bots"`}})
			}
		}
		return errors.Join(append(errs, &Unfit{Err: &refresher.Invalid{Field: "ca_file", Problem: "it is no certificate"}})...)
	}}
	_, err := Parse("bot.yaml", []byte(good), fakeKinds(), opt)
	var found Errors
	if !errors.As(err, &found) || len(found) != 2 {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`bot.yaml:7:79: token "bot": sinks.file.group: there is no group "bots"`,
		`ca_file: it is no certificate`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwithout %s", err, want)
		}
	}
}
