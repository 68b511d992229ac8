package iam

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestTokenFileCountsItsLifetimeFromWhenItWasWritten(t *testing.T) {
	t.Parallel()
	written := time.Now().Add(-40 * time.Minute).Truncate(time.Second)
	for name, c := range map[string]struct {
		content  string
		lifetime time.Duration
		want     time.Time
	}{
		"raw":                {secret + "\n", 0, time.Time{}},
		"raw with lifetime":  {secret, time.Hour, written.Add(time.Hour)},
		"JSON with expiry":   {`{"iam_token":"` + secret + `","expires_at":"2199-01-01T00:00:00Z"}`, time.Hour, time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)},
		"JSON with lifetime": {`{"access_token":"` + secret + `","expires_in":3600}`, time.Minute, written.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, c.content)
			if err := os.Chtimes(path, written, written); err != nil {
				t.Fatal(err)
			}
			o := TokenFileOptions{Path: path, Lifetime: c.lifetime}
			s := source(t, newCloud(t, Config{}), o)
			m, err := s.Mint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Value.Reveal() != secret || !m.ExpiresAt.Equal(c.want) {
				t.Errorf("%d bytes, expires at %s, want %s", m.Value.Len(), m.ExpiresAt, c.want)
			}
		})
	}
}

func TestTokenFileThatHoldsNoLiveTokenSaysWhy(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	old := writeFile(t, secret)
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		old:                              "expired 2 h ago: whoever writes it has stopped renewing it",
		filepath.Join(t.TempDir(), "no"): "does not exist",
		writeFile(t, ""):                 "is empty",
		writeFile(t, secret+"\n"+secret): "has 2 lines",
		writeFile(t, `{"iam_token":"`+secret+`","expires_at":"2020-01-01T00:00:00Z"}`): "expired",
		writeFile(t, `{"iam_token":["`+secret+`"]}`):                                   "another form",
	} {
		got := failure(t, source(t, c, TokenFileOptions{Path: path, Lifetime: time.Hour}))
		wantText(t, got, "read token from "+path, want)
	}
}

func TestTokenFileIsReadAfreshAtEachMint(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "t1.first")
	s := source(t, newCloud(t, Config{}), TokenFileOptions{Path: path})
	for _, value := range []string{"t1.first", "t1.second"} {
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := s.Mint(t.Context())
		if err != nil || m.Value.Reveal() != value {
			t.Errorf("%d bytes, %v", m.Value.Len(), err)
		}
	}
}

func TestOptionsNameTheFilesThatMatter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options         options
		rebuild, inputs []string
	}{
		{KeyOptions{File: "/k"}, []string{"/k"}, nil},
		{OAuthTokenOptions{File: "/o"}, []string{"/o"}, nil},
		{TokenFileOptions{Path: "/t"}, nil, []string{"/t"}},
		{WorkloadIdentityOptions{ServiceAccountID: "a", TokenFile: "/w"}, nil, nil},
		{MetadataOptions{}, nil, nil},
		{CommandOptions{Argv: []string{"yc"}}, nil, nil},
	} {
		if !slices.Equal(c.options.Rebuild(), c.rebuild) || !slices.Equal(c.options.Inputs(), c.inputs) {
			t.Errorf("%T: rebuild %v, inputs %v", c.options, c.options.Rebuild(), c.options.Inputs())
		}
		if err := c.options.Validate(); err != nil {
			t.Errorf("%T: %v", c.options, err)
		}
	}
}

func TestOptionsWithMistakesAreRefusedFieldByField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options interface{ Validate() error }
		want    []string
	}{
		{KeyOptions{}, []string{"file: is missing"}},
		{OAuthTokenOptions{}, []string{"file: is missing"}},
		{TokenFileOptions{Lifetime: -1}, []string{"path: is missing", "lifetime: is negative"}},
		{WorkloadIdentityOptions{}, []string{"service_account_id: is missing", "token_file: is missing"}},
		{CommandOptions{}, []string{"argv: is missing"}},
		{CommandOptions{Argv: []string{""}}, []string{"argv: is missing"}},
		{CommandOptions{Argv: []string{"a", "b\x00"}, Timeout: time.Hour, Lifetime: -1}, []string{"argv: has an argument with a NUL", "timeout: must be between", "lifetime: is negative"}},
		{CommandOptions{Argv: []string{"a"}, Timeout: -1}, []string{"timeout: must be"}},
		{Endpoints{IAM: "iam.example"}, []string{"iam: \"iam.example\" is not host:port"}},
		{Endpoints{IAM: "https://iam.example:443"}, []string{"iam: "}},
		{Endpoints{IAM: "iam.example:0"}, []string{"iam: \"0\" is not a port"}},
		{Endpoints{IAM: "iam.example:https"}, []string{"iam: \"https\" is not a port"}},
		{Endpoints{TokenExchange: "http://auth.example/token"}, []string{"token_exchange: ", "in the clear", "use https"}},
		{Endpoints{TokenExchange: "http://169.254.169.254/token"}, []string{"token_exchange: ", "in the clear"}},
		{Endpoints{TokenExchange: "auth.example/token", Metadata: "169.254.169.254"}, []string{"token_exchange: ", "metadata: "}},
		{Endpoints{Metadata: "http://metadata.example"}, []string{"metadata: ", "in the clear"}},
		{Endpoints{Metadata: "http://u:recognisable@127.0.0.1"}, []string{"metadata: a URL with a user"}},
		{Endpoints{Metadata: "ftp://127.0.0.1"}, []string{"neither an https nor an http URL"}},
	} {
		err := c.options.Validate()
		if err == nil {
			t.Errorf("%+v is accepted", c.options)
			continue
		}
		wantText(t, err, c.want...)
	}
	for _, e := range []Endpoints{
		{},
		Endpoints{}.WithDefaults(),
		{IAM: "[::1]:4433", TokenExchange: "http://localhost:8080/oauth/token", Metadata: "http://[::1]:80"},
		{IAM: "iam.api.yandexcloud.kz:443", TokenExchange: "https://auth.yandexcloud.kz/oauth/token", Metadata: "http://169.254.169.254/"},
	} {
		if err := e.Validate(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	}
}
