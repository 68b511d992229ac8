package sink

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

func newTestFile(t *testing.T, o FileOptions, headers ...string) *File {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "token")
	}
	f, err := NewFile(o, "bpfem0", accounts(), headers...)
	must(t, err)
	return f
}

func content(t *testing.T, f *File) string {
	t.Helper()
	b, err := os.ReadFile(f.Path())
	must(t, err)
	return string(b)
}

func TestFormatsOfFiles(t *testing.T) {
	t.Parallel()
	v := refresher.Version{
		Token: "bot", Lineage: "abc", N: 7, Value: refresher.NewValue(`t1."x"`), Type: refresher.TypeIAM,
		ExpiresAt: start.Add(90*time.Minute + 999), PublishedAt: start.In(time.FixedZone("", 3600)),
	}
	oauth := v
	oauth.Type, oauth.ExpiresAt = refresher.TypeOAuth, time.Time{}
	for name, c := range map[string]struct {
		format string
		v      refresher.Version
		want   string
	}{
		"the default":     {"", v, `t1."x"`},
		"raw":             {"raw", v, `t1."x"`},
		"header":          {"header", v, "Authorization: Bearer t1.\"x\"\nX-Cloud-Org-ID: org\n"},
		"header of OAuth": {"header", oauth, "Authorization: OAuth t1.\"x\"\nX-Cloud-Org-ID: org\n"},
		"json": {"json", v, `{"name":"bot","value":"t1.\"x\"","type":"iam","expires_at":"2026-09-01T13:30:00Z",` +
			`"lineage":"abc","version":7,"published_at":"2026-09-01T12:00:00Z"}` + "\n"},
		"json of unknown end": {"json", oauth, `{"name":"bot","value":"t1.\"x\"","type":"oauth","expires_at":null,` +
			`"lineage":"abc","version":7,"published_at":"2026-09-01T12:00:00Z"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newTestFile(t, FileOptions{Format: c.format}, "X-Cloud-Org-ID: org")
			must(t, f.Check(t.Context()))
			must(t, f.Publish(t.Context(), c.v))
			if got := content(t, f); got != c.want {
				t.Errorf("the file holds %q\nwant %q", got, c.want)
			}
			must(t, f.Holds(t.Context(), c.v))
			if c.format == "json" && !json.Valid([]byte(content(t, f))) {
				t.Error("that is not JSON")
			}
		})
	}
}

func TestATemplateFile(t *testing.T) {
	t.Parallel()
	f := newTestFile(t, FileOptions{
		Format:   "template",
		Template: "token: {{.Value | json}}\nname: {{.Name}}\ntype: {{.Type}}\nversion: {{.Version}}\nexpires: {{.ExpiresAt}}\norg: {{.OrgID}}\nbasic: {{.Value | base64}}\n",
	})
	v := version("bot", 7)
	v.Value = refresher.NewValue(`t1."x"`)
	must(t, f.Publish(t.Context(), v))
	want := "token: \"t1.\\\"x\\\"\"\nname: bot\ntype: iam\nversion: 7\nexpires: 2026-09-02T00:00:00Z\norg: bpfem0\nbasic: dDEuIngi\n"
	if got := content(t, f); got != want {
		t.Errorf("the file holds %q\nwant %q", got, want)
	}
	must(t, f.Holds(t.Context(), v))
	v.ExpiresAt = time.Time{} // nobody knows
	must(t, f.Publish(t.Context(), v))
	if got := content(t, f); !strings.Contains(got, "\nexpires: \n") {
		t.Errorf("the file holds %q", got)
	}
}

func TestATemplateNeedsAnOrganizationForItsID(t *testing.T) {
	t.Parallel()
	var invalid *refresher.Invalid
	_, err := NewFile(FileOptions{Path: "/f", Format: "template", Template: "{{.OrgID}}"}, "", accounts())
	if !errors.As(err, &invalid) || invalid.Field != "template" {
		t.Errorf("NewFile: %v", err)
	}
	_, err = NewEnvFile(EnvFileOptions{Path: "/f", Variables: map[string]string{"ORG": "{{.OrgID}}"}}, "", accounts())
	if !errors.As(err, &invalid) || invalid.Field != "variables.ORG" {
		t.Errorf("NewEnvFile: %v", err)
	}
}

func TestAHeaderFileNeverHoldsASecondLine(t *testing.T) {
	t.Parallel()
	f := newTestFile(t, FileOptions{Format: "header"})
	v := version("bot", 1)
	v.Value = refresher.NewValue("secret\r\nX-Evil: 1")
	err := f.Publish(t.Context(), v)
	wantError(t, err, "line break")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error quotes the value: %v", err)
	}
}

func TestAFileThatHoldsTheVersionIsNotWritten(t *testing.T) {
	t.Parallel()
	f := newTestFile(t, FileOptions{Format: "json"})
	must(t, f.Publish(t.Context(), version("bot", 1)))
	before, err := os.Lstat(f.Path())
	must(t, err)
	must(t, f.Publish(t.Context(), version("bot", 1)))
	after, err := os.Lstat(f.Path())
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the file was replaced by the same")
	}
	must(t, os.Chmod(f.Path(), 0o666))
	must(t, f.Publish(t.Context(), version("bot", 1)))
	after, err = os.Lstat(f.Path())
	must(t, err)
	if after.Mode() != 0o600 {
		t.Errorf("the mode stayed %v", after.Mode())
	}
	must(t, f.Publish(t.Context(), version("bot", 2)))
	wantError(t, f.Holds(t.Context(), version("bot", 1)), "something else")
	must(t, f.Close(t.Context()))
	must(t, f.Holds(t.Context(), version("bot", 2)))
}

func TestModesFollowFromTheGroup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    FileOptions
		want os.FileMode
	}{
		{FileOptions{}, 0o600},
		{FileOptions{Group: "bots"}, 0o640},
		{FileOptions{Group: "bots", Mode: 0o660}, 0o660},
	} {
		f := newTestFile(t, c.o)
		if f.opt.Mode != c.want {
			t.Errorf("%+v: mode %04o, want %04o", c.o, f.opt.Mode, c.want)
		}
	}
}

func TestUnknownAccountsAreInvalidOptions(t *testing.T) {
	t.Parallel()
	var invalid *refresher.Invalid
	_, err := NewFile(FileOptions{Path: "/f", Owner: "who"}, "bpfem0", accounts())
	if !errors.As(err, &invalid) || invalid.Field != "owner" {
		t.Errorf("NewFile: %v", err)
	}
	_, err = NewEnvFile(EnvFileOptions{Path: "/f", Group: "who"}, "bpfem0", accounts())
	if !errors.As(err, &invalid) || invalid.Field != "group" {
		t.Errorf("NewEnvFile: %v", err)
	}
	_, err = NewServer(ServerOptions{Socket: SocketOptions{Path: "/s", Owner: "who"}, Accounts: accounts()})
	if !errors.As(err, &invalid) || invalid.Field != "owner" {
		t.Errorf("NewServer: %v", err)
	}
}

func TestOneIDPerPlace(t *testing.T) {
	t.Parallel()
	e, err := NewEnvFile(EnvFileOptions{Path: "/run/x.env"}, "bpfem0", accounts())
	must(t, err)
	s, err := NewServer(ServerOptions{Socket: SocketOptions{Path: "/run/x.sock"}, Accounts: accounts()})
	must(t, err)
	m, err := NewMetadataServer(MetadataServerOptions{Listen: "127.0.0.1:8775"})
	must(t, err)
	set, err := NewSet(SetOptions{Path: "/run/set"}, accounts())
	must(t, err)
	for want, sink := range map[string]refresher.Sink{
		"set:/run/set":            set,
		"file:/run/x":             newTestFile(t, FileOptions{Path: "/run/x"}),
		"env_file:/run/x.env":     e,
		"socket:/run/x.sock":      endpoint(t, s, "bot", nil),
		"metadata:127.0.0.1:8775": m.For("bot", false),
	} {
		if sink.ID() != want {
			t.Errorf("the ID is %q, want %q", sink.ID(), want)
		}
	}
}
