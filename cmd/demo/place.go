package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How the demo makes half a day short. The schedule leaves the daemon 5 s to
// confirm a revocation before it would have renewed anyway.
const (
	tokenLifetime = 20 * time.Second
	refreshEvery  = 7 * time.Second
	probeEvery    = 5 * time.Second
)

// place is where everything is: files in a temporary directory, and loopback
// addresses for the daemon to listen on.
type place struct {
	dir              string
	metadata, status string // host:port
}

// maxSocketPath is the longest path of a socket on all systems.
const maxSocketPath = 103

// newPlace makes the directory.
func newPlace() (*place, error) {
	p := &place{}
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(parent, "iam-demo-")
		if err != nil {
			return nil, fmt.Errorf("make a temporary directory: %w", err)
		}
		p.dir = dir
		if len(p.path("itr.sock")) <= maxSocketPath && !strings.Contains(dir, "$") {
			return p, nil
		}
		_ = os.Remove(dir)
	}
	return nil, errors.New("make a temporary directory: its path is too long for a socket, set TMPDIR=/tmp")
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// remove deletes everything.
func (p *place) remove() error {
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the temporary directory: %w", err)
	}
	return nil
}

// takePorts finds two addresses that are free now. Somebody else may take them
// before the daemon does, but the system does not give them out again soon.
func (p *place) takePorts() error {
	for _, address := range []*string{&p.metadata, &p.status} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a free port on loopback: %w", err)
		}
		defer func() { _ = l.Close() }()
		*address = l.Addr().String()
	}
	return nil
}

// endpoints is what the emulator says of itself in endpoints.json.
type endpoints struct {
	IAM           string `json:"iam"`
	Metadata      string `json:"metadata"`
	TokenExchange string `json:"token_exchange"`
	OAuth         string `json:"oauth"`
	Tracker       string `json:"tracker"`
	Admin         string `json:"admin"`
}

func (p *place) readEndpoints() (endpoints, error) {
	var e endpoints
	b, err := os.ReadFile(p.path("endpoints.json"))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		return e, fmt.Errorf("read where the stand-in cloud is: %w", err)
	}
	return e, nil
}

// config is the daemon's configuration: one token with every kind of sink.
func (p *place) config(e endpoints, org string) string {
	quoted := func(name string) string {
		b, _ := json.Marshal(p.path(name)) // a JSON string is a YAML string
		return string(b)
	}
	return fmt.Sprintf(`tokens:
  - name: %s
    source: {service_account_key: {file: %s}}
    refresh: {schedule: "@every %s"}
    probe: {tracker: {cloud_org_id: %s}, schedule: "@every %s"}
    sinks:
      - file: {path: %s}
      - env_file: {path: %s, variables: {YC_TOKEN: "{{.Value}}"}}
      - socket: {path: %s}
      - metadata: {listen: %q, default: true}
state_dir: %s
status: {listen: %q}
log: {level: debug, format: json}
endpoints: {iam: %q, metadata: %q, token_exchange: %q, oauth: %q, tracker: %q}
ca_file: %s
`, tokenName, quoted("key.json"), refreshEvery, org, probeEvery,
		quoted("bot.token"), quoted("bot.env"), quoted("itr.sock"), p.metadata,
		quoted("state"), p.status,
		e.IAM, e.Metadata, e.TokenExchange, e.OAuth, e.Tracker, quoted("ca.pem"))
}

// writeConfig writes demo.yaml, beside the emulator's own config.yaml.
func (p *place) writeConfig(e endpoints, org string) (path string, err error) {
	if err := p.takePorts(); err != nil {
		return "", err
	}
	path = p.path("demo.yaml")
	if err := os.WriteFile(path, []byte(p.config(e, org)), 0o600); err != nil {
		return "", fmt.Errorf("write the daemon's configuration: %w", err)
	}
	return path, nil
}
