package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/yandex-cloud/go-sdk/v2/credentials"
	"google.golang.org/grpc/codes"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/textfile"
)

// OAuthTokenOptions is the source oauth_token: the OAuth token of a person with a
// Yandex account is exchanged for an IAM token. The token is in a file, or is
// that of a stored login.
// https://yandex.cloud/en/docs/iam/operations/iam-token/create
type OAuthTokenOptions struct {
	File             string `yaml:"file" doc:"file with a person's Yandex OAuth token; or a stored login, with the three below" check:"path"`
	ClientID         string `yaml:"client_id" doc:"as in the source oauth"`
	ClientSecretFile string `yaml:"client_secret_file" doc:"as in the source oauth" check:"path"`
	TokenFile        string `yaml:"token_file" doc:"as in the source oauth: the stored login, which is kept fresh" check:"path"`
}

// Validate implements the check of the options.
func (o OAuthTokenOptions) Validate() error {
	login := o.ClientID != "" || o.ClientSecretFile != "" || o.TokenFile != ""
	switch {
	case o.File == "" && !login:
		return missing("file", "/etc/iam-token-refresher/oauth.token")
	case o.File != "" && login:
		return &refresher.Invalid{Field: "file", Problem: "is given beside a stored login: keep one of them"}
	case login && o.ClientID == "":
		return missing("client_id", "5f1e0e3b7c9d4a62b8d1f04c6a7e9b13")
	case login && o.TokenFile == "":
		return missing("token_file", "/var/lib/iam-token-refresher/oauth.json")
	}
	return nil
}

// FromLogin tells whether the token is that of a stored login: then the source
// is made by [ExchangeOAuth] over the one that keeps the login.
func (o OAuthTokenOptions) FromLogin() bool { return o.TokenFile != "" }

// Rebuild lists the files that New reads: a change needs a new source.
func (o OAuthTokenOptions) Rebuild() []string {
	return slices.DeleteFunc([]string{o.File, o.ClientSecretFile}, func(path string) bool { return path == "" })
}

// Inputs lists the files whose change should start a refresh.
func (o OAuthTokenOptions) Inputs() []string {
	if !o.FromLogin() {
		return nil
	}
	return []string{o.TokenFile}
}

// ExchangeDeprecated is what whoever configures this source should know.
// https://yandex.cloud/en/docs/iam/operations/iam-token/create
const ExchangeDeprecated = "Yandex Cloud will stop exchanging people's OAuth tokens by the end of 2026: move to service_account_key, metadata or workload_identity, or to a command that runs yc; for Tracker alone the source oauth needs no exchange"

// New reads the token. It warns when others may read it too.
func (o OAuthTokenOptions) New(c *Cloud) (refresher.Source, error) {
	const kind = "OAuth token file"
	content, info, err := readFile(kind, o.File)
	if err != nil {
		return nil, invalidFile(err)
	}
	token, err := clean(strings.TrimSpace(string(content)))
	if err != nil {
		return nil, invalidFile(fmt.Errorf("%s %s: what is in it %w", kind, o.File, err))
	}
	textfile.WarnIfExposed(c.log, kind, o.File, info)
	return &oauthSource{cloud: c, file: o.File, token: refresher.NewValue(token)}, nil
}

type oauthSource struct {
	cloud *Cloud
	file  string
	token refresher.Value
}

// Identity names the file: whose token is in it, nobody says.
func (s *oauthSource) Identity() string {
	return "oauth_token in " + s.file + " at " + s.cloud.endpoints.IAM
}

func (s *oauthSource) Mint(ctx context.Context) (refresher.Minted, error) {
	return s.cloud.exchangeOAuth(ctx, "the OAuth token in "+s.file, s.token, s.remedy)
}

func (c *Cloud) exchangeOAuth(ctx context.Context, with string, token refresher.Value, remedy func(codes.Code) string) (refresher.Minted, error) {
	a := attempt{
		what:    fmt.Sprintf("create IAM token at %s with %s", c.endpoints.IAM, with),
		secrets: []string{token.Reveal()},
	}
	//lint:ignore SA1019 the cloud will end this exchange, and until then there is no other for people
	creds := credentials.OAuthToken(token.Reveal())
	return c.exchange(ctx, a, remedies(remedy), creds)
}

// ExchangeOAuth makes a source of the IAM tokens that the OAuth tokens of base
// are exchanged for. Each mint asks base first.
func ExchangeOAuth(c *Cloud, base refresher.Source) refresher.Source {
	return &loginExchange{cloud: c, base: base}
}

type loginExchange struct {
	cloud *Cloud
	base  refresher.Source
}

// Identity names the login, and what comes of it.
func (s *loginExchange) Identity() string {
	return "oauth_token of " + s.base.Identity() + ", exchanged at " + s.cloud.endpoints.IAM
}

func (s *loginExchange) Mint(ctx context.Context) (refresher.Minted, error) {
	login, err := s.base.Mint(ctx)
	if err != nil {
		return refresher.Minted{}, fmt.Errorf("to exchange it for an IAM token: %w", err)
	}
	refused := false
	m, err := s.exchange(ctx, login, &refused)
	if !refused || refresher.LookOnly(ctx) {
		return m, err
	}
	// IAM does not take the person's token: its source gets another, once.
	if login, err = s.base.Mint(refresher.WithRefused(ctx, login.Value)); err != nil {
		return refresher.Minted{}, fmt.Errorf("IAM rejected the OAuth token: %w", err)
	}
	return s.exchange(ctx, login, &refused)
}

func (s *loginExchange) exchange(ctx context.Context, login refresher.Minted, refused *bool) (refresher.Minted, error) {
	return s.cloud.exchangeOAuth(ctx, "the "+s.base.Identity(), login.Value, func(code codes.Code) string {
		*refused = *refused || code == codes.Unauthenticated
		if code == codes.Unauthenticated {
			return "the OAuth token expired or was revoked"
		}
		return oauthRemedy(code)
	})
}

func (s *oauthSource) remedy(code codes.Code) string {
	switch code {
	case codes.Unauthenticated, codes.InvalidArgument:
		return "the OAuth token expired, was revoked, or is none: get a new one and write it to " + s.file
	}
	return oauthRemedy(code)
}

func oauthRemedy(code codes.Code) string {
	if code == codes.PermissionDenied || code == codes.NotFound {
		return "the account has no access to Yandex Cloud: accept its terms at https://console.yandex.cloud, or use another account"
	}
	return ""
}
