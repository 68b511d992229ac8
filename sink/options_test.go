package sink

import (
	"errors"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"iam-token-refresher/refresher"
)

func TestAModeIsAQuotedOctalNumber(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]FileMode{
		`mode: "0640"`:           0o640,
		`mode: '0600'`:           0o600,
		`mode: "640"`:            0o640,
		`mode: "0o640"`:          0o640,
		`mode: "0777" # comment`: 0o777,
		`{mode: "0640"}`:         0o640,
		`other: 1`:               0,
	} {
		var got struct{ Mode FileMode }
		if err := yaml.Unmarshal([]byte(in), &got); err != nil || got.Mode != want {
			t.Errorf("%s: %04o, %v; want %04o", in, got.Mode, err, want)
		}
	}
	for in, want := range map[string]string{
		`mode: 644`:       `write "0644", with the quotes`,
		`mode: 0640`:      `write "0640", with the quotes`,
		`mode: 420`:       `write "0420", with the quotes`,
		`mode: 0o640`:     `write "0640", with the quotes`,
		`mode: rw-r-----`: `write "0640", with the quotes`,
		`mode: [1]`:       `quoted octal number`,
		`mode: "0888"`:    `"0888" is not a file mode`,
		`mode: ""`:        `"" is not a file mode`,
		`mode: "64"`:      `"64" is not a file mode`,
		`mode: "00640"`:   `"00640" is not a file mode`,
		`mode: "-640"`:    `"-640" is not a file mode`,
		`mode: "4755"`:    `setuid, setgid or sticky`,
		`mode: "0000"`:    `lets nobody in`,
	} {
		var got struct{ Mode FileMode }
		err := yaml.Unmarshal([]byte(in), &got)
		wantError(t, err, want)
		var invalid *refresher.Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %T is not a *refresher.Invalid", in, err)
		}
	}
}

func TestOptionsAreDecodedFromYAML(t *testing.T) {
	t.Parallel()
	var o SocketOptions
	must(t, yaml.Unmarshal([]byte("path: /run/s\nmode: \"0660\"\nallow: {users: [grafana, 1000], groups: [bots]}\ndefault: true\n"), &o))
	must(t, o.Validate())
	if o.Mode != 0o660 || !o.Default || strings.Join(o.Allow.Users, " ") != "grafana 1000" || o.Allow.Groups[0] != "bots" {
		t.Errorf("decoded %+v, %+v", o, *o.Allow)
	}
}

func TestMistakesInOptionsAreNamed(t *testing.T) {
	t.Parallel()
	long := "/" + strings.Repeat("s", maxSocketPath)
	vars := map[string]string{"YC_TOKEN": "{{.Value}}"}
	for name, c := range map[string]struct {
		options interface{ Validate() error }
		want    string // empty: valid
	}{
		"file":                          {FileOptions{Path: "/f", Format: "json", Mode: 0o644, Write: "in_place"}, ""},
		"file format":                   {FileOptions{Format: "xml"}, `format: "xml" is not one of raw, json, header, template`},
		"file template":                 {FileOptions{Format: "template", Template: "{{.Value | json}} {{.OrgID}}"}, ""},
		"file template without text":    {FileOptions{Format: "template"}, "template: is missing"},
		"file text without template":    {FileOptions{Format: "json", Template: "x"}, "template: means nothing without `format: template`"},
		"a mistake in a template":       {FileOptions{Format: "template", Template: "a: 1\nb: {{.Value | upper}}"}, "template: line 2, column 4: {{.Value | upper}} names no function"},
		"file write":                    {FileOptions{Write: "append"}, `write: "append" is not one of rename, in_place`},
		"file all may write":            {FileOptions{Mode: 0o666}, `mode: "0666" lets everybody change the token`},
		"file executable":               {FileOptions{Mode: 0o700}, `mode: "0700" makes the file executable`},
		"env file":                      {EnvFileOptions{Variables: vars}, ""},
		"env file without variables":    {EnvFileOptions{}, "variables: name at least one"},
		"env file dialect":              {EnvFileOptions{Variables: vars, Dialect: "fish"}, `dialect: "fish" is not one of shell, docker`},
		"env file all may write":        {EnvFileOptions{Variables: vars, Mode: 0o666}, `lets everybody change`},
		"a variable with a dash":        {EnvFileOptions{Variables: map[string]string{"A-B": "x"}}, `variables.A-B: "A-B" is not a name`},
		"a variable with a digit first": {EnvFileOptions{Variables: map[string]string{"1A": "x"}}, `"1A" is not a name`},
		"a variable with a line break":  {EnvFileOptions{Variables: map[string]string{"A\nB": "x"}}, `is not a name`},
		"a template that does not end":  {EnvFileOptions{Variables: map[string]string{"A": "{{.Value"}}, "variables.A: line 1, column 1: {{ without }}"},
		"a field that does not exist":   {EnvFileOptions{Variables: map[string]string{"A": "{{.Vlaue}}"}}, "Vlaue"},
		"a space":                       {EnvFileOptions{Variables: map[string]string{"A": "Bearer {{.Value}}"}}, "variables.A: its value holds a character outside"},
		"a space in a dialect":          {EnvFileOptions{Dialect: "shell", Variables: map[string]string{"A": "Bearer {{.Value}}"}}, ""},
		"a line break in a dialect":     {EnvFileOptions{Dialect: "docker", Variables: map[string]string{"A": "{{.Value}}\n"}}, "line break or NUL"},
		"all fields of templates":       {EnvFileOptions{Variables: map[string]string{"A": "{{.Name}},{{.Type}},{{.Version}},{{.ExpiresAt}}"}}, ""},
		"set":                           {SetOptions{Path: "/s", Mode: 0o640}, ""},
		"set executable":                {SetOptions{Path: "/s", Mode: 0o750}, `mode: "0750" makes the file executable`},
		"socket":                        {SocketOptions{Path: "/run/s", Mode: 0o666}, ""},
		"socket of 107 bytes":           {SocketOptions{Path: long[:maxSocketPath]}, ""},
		"socket of 108 bytes":           {SocketOptions{Path: long}, "path: the path has 108 bytes and the system takes at most 107"},
		"socket executable":             {SocketOptions{Path: "/s", Mode: 0o770}, `mode: "0770" makes the socket executable`},
		"allow nobody":                  {SocketOptions{Path: "/s", Allow: &Allow{}}, "allow: it allows nobody"},
		"allow an empty user":           {SocketOptions{Path: "/s", Allow: &Allow{Users: []string{""}}}, "allow.users: a user is empty"},
		"allow an empty group":          {SocketOptions{Path: "/s", Allow: &Allow{Groups: []string{""}}}, "allow.groups: a group is empty"},
		"metadata":                      {MetadataOptions{Listen: "127.0.0.1:8775"}, ""},
		"metadata on IPv6":              {MetadataOptions{Listen: "[::1]:8775"}, ""},
		"metadata on the cloud's own":   {MetadataOptions{Listen: "169.254.169.254:80"}, ""},
		"metadata for all":              {MetadataOptions{Listen: "0.0.0.0:8775"}, "listen: 0.0.0.0 can be reached from outside"},
		"metadata on another address":   {MetadataOptions{Listen: "10.0.0.1:8775"}, "can be reached from outside"},
		"metadata by name":              {MetadataOptions{Listen: "localhost:8775"}, "write for instance 127.0.0.1:8775"},
		"metadata without an address":   {MetadataOptions{Listen: ":8775"}, "is not an address and port"},
		"metadata on any port":          {MetadataOptions{Listen: "127.0.0.1:0"}, "choose a port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.options.Validate()
			if c.want == "" {
				must(t, err)
				return
			}
			if strings.Contains(name, "108") && maxSocketPath != 107 {
				t.Skip("the limit is another here")
			}
			wantError(t, err, c.want)
			var invalid *refresher.Invalid
			if !errors.As(err, &invalid) {
				t.Errorf("%T is not a *refresher.Invalid", err)
			}
		})
	}
}

func TestTokensOnOneSocketAgree(t *testing.T) {
	t.Parallel()
	allow := &Allow{Users: []string{"1"}}
	for name, c := range map[string]struct {
		tokens []SocketOptions
		mode   FileMode
		want   string
	}{
		"nothing said":            {[]SocketOptions{{}, {}}, 0o600, ""},
		"one says it":             {[]SocketOptions{{}, {Mode: 0o660}}, 0o660, ""},
		"a group":                 {[]SocketOptions{{Group: "g"}, {}}, 0o660, ""},
		"all have allow":          {[]SocketOptions{{Allow: allow}, {Allow: allow}}, 0o666, ""},
		"one has no allow":        {[]SocketOptions{{Allow: allow}, {}}, 0o600, ""},
		"one default":             {[]SocketOptions{{Default: true}, {}}, 0o600, ""},
		"two modes":               {[]SocketOptions{{Mode: 0o600}, {Mode: 0o660}}, 0o600, `cannot be "0600" for one token and "0660" for another`},
		"two owners":              {[]SocketOptions{{Owner: "a"}, {Owner: "b"}}, 0o600, `owner "a" and "b"`},
		"two groups":              {[]SocketOptions{{Group: "a"}, {Group: "b"}}, 0o660, `group "a" and "b"`},
		"two tokens are default":  {[]SocketOptions{{Default: true}, {Default: true}}, 0o600, "has 2 default tokens"},
		"the same said two times": {[]SocketOptions{{Mode: 0o640, Owner: "a"}, {Mode: 0o640, Owner: "a"}}, 0o640, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := SharedSocket(c.tokens...)
			if c.want != "" {
				wantError(t, err, c.want)
				return
			}
			must(t, err)
			if got.Mode != c.mode {
				t.Errorf("mode %v, want %v", got.Mode, c.mode)
			}
		})
	}
}

func TestAccountsAreNamesOrNumbers(t *testing.T) {
	t.Parallel()
	a := accounts()
	for name, want := range map[string]int{"": -1, "0": 0, "77": 77, "65534": 65534, "4294967294": 4294967294, "grafana": 1234} {
		if got, err := a.UID("owner", name); err != nil || got != want {
			t.Errorf("user %q is %d, %v; want %d", name, got, err, want)
		}
	}
	if got, err := a.GID("group", "bots"); err != nil || got != 2345 {
		t.Errorf("group bots is %d, %v", got, err)
	}
	_, err := a.UID("owner", "grafanna")
	wantError(t, err, `owner: there is no user "grafanna" on this system: create it, or give its number`)
	_, err = a.GID("group", "grafana")
	wantError(t, err, `group: there is no group "grafana"`)
	_, err = a.UID("owner", "4294967295")
	wantError(t, err, "it means nobody")
	broken := newAccounts(func(string) (int, error) { return 0, errors.New("the directory hangs") }, nil)
	_, err = broken.UID("owner", "x")
	wantError(t, err, `the directory hangs: give its number instead`)
}

func TestAnAccountIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	asked := 0
	find := func(string) (int, error) { asked++; return asked, nil }
	a := newAccounts(find, find)
	for range 3 {
		if id, err := a.UID("", "x"); id != 1 || err != nil {
			t.Errorf("the user is %d, %v", id, err)
		}
		if id, err := a.GID("", "x"); id > 2 || err != nil {
			t.Errorf("the group is %d, %v", id, err)
		}
	}
}

func TestALookupThatFailedIsNotMadeAgainForEachToken(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{errNoAccount, errors.New("getent group: signal: killed")} {
		asked := 0
		find := func(string) (int, error) { asked++; return 0, failure }
		a := newAccounts(find, find)
		var first string
		for i := range 1000 {
			_, err := a.GID("group", "bots")
			if err == nil || i > 0 && err.Error() != first {
				t.Fatalf("the error is %v, not as at first %s", err, first)
			}
			first = err.Error()
		}
		_, err := a.GID("allow.groups", "bots")
		wantError(t, err, "allow.groups: ")
		if asked != 1 {
			t.Errorf("it was looked up %d times", asked)
		}
	}
}

func TestTheSystemKnowsItsAccounts(t *testing.T) {
	t.Parallel()
	a := NewAccounts(nil)
	if id, err := a.UID("owner", "root"); err != nil || id != 0 {
		t.Errorf("root is %d, %v", id, err)
	}
	_, err := a.UID("owner", "no-such-user-here")
	wantError(t, err, "there is no user")
	_, err = a.GID("group", "--help")
	wantError(t, err, "there is no group")
	if id, err := getent(nil, "passwd", "root"); err != nil && !errors.Is(err, errNoAccount) || id != 0 {
		t.Errorf("getent says that root is %d, %v", id, err)
	}
}

func TestTheOverflowIDCannotBeAllowed(t *testing.T) {
	t.Parallel()
	for _, a := range []*Allow{{Users: []string{"nobody"}}, {Users: []string{"65534"}}, {Groups: []string{"65534"}}} {
		_, err := a.resolve(accounts())
		wantError(t, err, "it can never be allowed")
	}
	_, err := (&Allow{Groups: []string{"grafana"}}).resolve(accounts())
	wantError(t, err, "allow.groups: there is no group")
}
