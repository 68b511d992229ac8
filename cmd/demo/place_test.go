package main

import (
	"os"
	"testing"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
)

func TestTheDaemonUnderstandsTheConfiguration(t *testing.T) {
	t.Parallel()
	p, err := newPlace()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.remove() }()
	path, err := p.writeConfig(endpoints{
		IAM: "127.0.0.1:2", Metadata: "http://127.0.0.1:3",
		TokenExchange: "https://127.0.0.1:4/oauth/token", OAuth: "https://127.0.0.1:5", Tracker: "https://127.0.0.1:6",
	}, "bpfem0lat0rcl0ud0rg1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path, daemon.Kinds(), config.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Tokens[0].Name != tokenName || len(c.Tokens[0].Sinks) != 4 || c.Status.Listen != p.status || p.status == p.metadata {
		t.Errorf("%+v", c.Tokens[0])
	}
	if err := p.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
		t.Error("the directory is still there")
	}
}
