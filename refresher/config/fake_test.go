package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"iam-token-refresher/refresher"
)

// The kinds of these tests resemble the real ones, which this package does not know.

type keySource struct {
	File string `yaml:"file" doc:"the key" check:"required,path"`
}

func (*keySource) Validate() error    { return nil }
func (s *keySource) Inputs() []string { return nil }
func (s *keySource) Rebuild() []string {
	return []string{s.File}
}

type metadataSource struct{}

func (*metadataSource) Validate() error { return nil }

type exchangeSource struct {
	ServiceAccountID string `yaml:"service_account_id" check:"required"`
	TokenFile        string `yaml:"token_file" check:"required,path"`
}

func (*exchangeSource) Validate() error { return nil }

type commandSource struct {
	Argv     []string      `yaml:"argv" doc:"program and arguments" check:"required"`
	Timeout  time.Duration `yaml:"timeout"`
	Lifetime time.Duration `yaml:"lifetime"`
}

func (*commandSource) Validate() error { return nil }

type fileSource struct {
	Path     string        `yaml:"path" check:"required,path"`
	Lifetime time.Duration `yaml:"lifetime"`
}

func (*fileSource) Validate() error { return nil }

type trackerProbe struct {
	CloudOrgID string `yaml:"cloud_org_id" doc:"a Yandex Cloud organization"`
	OrgID      string `yaml:"org_id" doc:"a Yandex 360 organization"`
}

func (p *trackerProbe) Validate() error {
	switch {
	case p.CloudOrgID == "" && p.OrgID == "":
		return &refresher.Invalid{Problem: "needs cloud_org_id or org_id"}
	case p.CloudOrgID != "" && p.OrgID != "":
		return &refresher.Invalid{Field: "org_id", Problem: "stands beside cloud_org_id: give the one that the organization has"}
	}
	return nil
}

type httpProbe struct {
	URL      string            `yaml:"url" check:"required"`
	Headers  map[string]string `yaml:"headers"`
	Accepted []int             `yaml:"accepted"`
	Rejected []int             `yaml:"rejected"`
}

func (p *httpProbe) Validate() error {
	var errs []error
	for name, value := range p.Headers {
		if strings.Count(value, "{{") != strings.Count(value, "}}") {
			errs = append(errs, fmt.Errorf("probe: %w", &refresher.Invalid{Field: "headers." + name, Problem: "is not a template"}))
		}
	}
	for i, status := range p.Accepted {
		if status < 100 || status > 599 {
			errs = append(errs, &refresher.Invalid{Field: fmt.Sprintf("accepted[%d]", i), Problem: "is not an HTTP status"})
		}
	}
	return errors.Join(errs...)
}

type fileCommon struct {
	Mode  string `yaml:"mode" doc:"octal, in quotes"`
	Owner string `yaml:"owner"`
	Group string `yaml:"group"`
}

func (c *fileCommon) validate() error {
	if n, err := strconv.ParseUint(c.Mode, 8, 32); err != nil || n > 0o777 {
		return &refresher.Invalid{Field: "mode", Problem: fmt.Sprintf("%q is not an octal file mode such as \"0640\"", c.Mode)}
	}
	return nil
}

type fileSink struct {
	Path       string `yaml:"path" doc:"the file" check:"required,path"`
	Format     string `yaml:"format" check:"oneof=raw|json|header|template"`
	fileCommon `yaml:",inline"`
}

func (s *fileSink) Validate() error   { return s.validate() }
func (s *fileSink) Targets() []string { return []string{s.Path} }

type setSink struct {
	Path string `yaml:"path" check:"required,path,dir"`
}

func (s *setSink) Validate() error   { return nil }
func (s *setSink) Targets() []string { return []string{s.Path + "/token", s.Path} }

type proxySink struct {
	Listen string `yaml:"listen" check:"required,listen"`
}

func (s *proxySink) Validate() error   { return nil }
func (s *proxySink) Targets() []string { return []string{s.Listen} }

type envFileSink struct {
	Path       string            `yaml:"path" check:"required,path"`
	Variables  map[string]string `yaml:"variables" check:"required"`
	fileCommon `yaml:",inline"`
}

func (s *envFileSink) Validate() error   { return s.validate() }
func (s *envFileSink) Targets() []string { return []string{s.Path} }

type allow struct {
	Users  []string `yaml:"users" doc:"users that may read"`
	Groups []string `yaml:"groups"`
}

type socketSink struct {
	Path       string `yaml:"path" check:"required,path"`
	Default    bool   `yaml:"default"`
	Allow      *allow `yaml:"allow"`
	fileCommon `yaml:",inline"`
}

func (s *socketSink) Validate() error {
	if len(s.Path) > 107 {
		return &refresher.Invalid{Field: "path", Problem: fmt.Sprintf("is %d bytes long, a socket's path may have 107", len(s.Path))}
	}
	if s.Allow != nil && len(s.Allow.Users)+len(s.Allow.Groups) == 0 {
		return &refresher.Invalid{Field: "allow.users", Problem: "allows nobody"}
	}
	return s.validate()
}

func (s *socketSink) Shared() (key string, says map[string]string) {
	return s.Path, map[string]string{"mode": s.Mode, "group": s.Group}
}
func (s *socketSink) IsDefault() bool { return s.Default }

type loginSource struct {
	ClientID   string `yaml:"client_id" check:"required"`
	SecretFile string `yaml:"client_secret_file" check:"path"`
	TokenFile  string `yaml:"token_file" check:"required,path"`
}

func (*loginSource) Validate() error { return nil }

type metadataSink struct {
	Listen  string `yaml:"listen" check:"required"`
	Default bool   `yaml:"default"`
}

func (*metadataSink) Validate() error                                { return nil }
func (s *metadataSink) Shared() (key string, says map[string]string) { return s.Listen, nil }
func (s *metadataSink) IsDefault() bool                              { return s.Default }

func fakeKinds() Kinds {
	return Kinds{
		Sources: map[string]Kind{
			"service_account_key": {New: func() Options { return &keySource{} }, Doc: "signs with a key"},
			"metadata":            {New: func() Options { return &metadataSource{} }, Doc: "asks the machine"},
			"workload_identity":   {New: func() Options { return &exchangeSource{} }},
			"oauth_token":         {New: func() Options { return &keySource{} }},
			"oauth":               {New: func() Options { return &loginSource{} }},
			"command":             {New: func() Options { return &commandSource{Timeout: 30 * time.Second} }},
			"token_file":          {New: func() Options { return &fileSource{} }},
		},
		Probes: map[string]Kind{
			"tracker": {New: func() Options { return &trackerProbe{} }, Doc: "asks Tracker who we are"},
			"http":    {New: func() Options { return &httpProbe{Accepted: []int{200}, Rejected: []int{401, 403}} }},
		},
		Sinks: map[string]Kind{
			"file":     {New: func() Options { return &fileSink{Format: "raw", fileCommon: fileCommon{Mode: "0600"}} }, Doc: "a file"},
			"env_file": {New: func() Options { return &envFileSink{fileCommon: fileCommon{Mode: "0600"}} }},
			"socket":   {New: func() Options { return &socketSink{fileCommon: fileCommon{Mode: "0600"}} }},
			"metadata": {New: func() Options { return &metadataSink{} }},
			"proxy":    {New: func() Options { return &proxySink{} }},
			"set":      {New: func() Options { return &setSink{} }},
		},
	}
}

// The variables that paths of these tests may name.
func fakeEnv(name string) (string, bool) {
	value, ok := map[string]string{"CREDENTIALS_DIRECTORY": "/run/credentials/itr", "EMPTY": "", "RELATIVE": "here", "LINES": "/a\nb"}[name]
	return value, ok
}

func parse(text string) (*Config, error) {
	return Parse("bot.yaml", []byte(text), fakeKinds(), LoadOptions{LookupEnv: fakeEnv})
}

const good = `tokens:
  - name: bot
    source: {service_account_key: {file: /etc/iam-token-refresher/bot.json}}
    refresh: {schedule: "@every 1h", before_expiry: 4h}          # or cron: "17 * * * *" with jitter: 5m
    probe: {tracker: {cloud_org_id: bpfaidqca8vd0m5jl3fp}}       # or org_id: "1234567"
    sinks:
      - file: {path: /run/iam-token-refresher/bot.token, mode: "0640", group: bots}
      - env_file: {path: /run/iam-token-refresher/bot.env, variables: {YC_TOKEN: "{{.Value}}"}}
      - socket: {path: /run/iam-token-refresher.sock, mode: "0660", allow: {users: [grafana], groups: [bots]}}
      - metadata: {listen: "127.0.0.1:8775", default: true}
state_dir: /run/iam-token-refresher-state
status: {listen: "127.0.0.1:9117"}
log: {level: info, format: auto}
`
