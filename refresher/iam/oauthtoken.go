package iam

import (
	"context"
	"fmt"
	"strings"

	"github.com/yandex-cloud/go-sdk/v2/credentials"
	"google.golang.org/grpc/codes"

	"iam-token-refresher/refresher"
)

// OAuthTokenOptions is the source oauth_token: the OAuth token of a person with a
// Yandex account is exchanged for an IAM token.
// https://yandex.cloud/en/docs/iam/operations/iam-token/create
type OAuthTokenOptions struct {
	File string `yaml:"file" doc:"file with a person's Yandex OAuth token" check:"required,path"`
}

// Validate implements the check of the options.
func (o OAuthTokenOptions) Validate() error {
	if o.File == "" {
		return missing("file", "/etc/iam-token-refresher/oauth.token")
	}
	return nil
}

// Rebuild lists the files that New reads: a change needs a new source.
func (o OAuthTokenOptions) Rebuild() []string { return []string{o.File} }

// Inputs lists the files whose change should start a refresh.
func (o OAuthTokenOptions) Inputs() []string { return nil }

// New reads the token. It warns when others may read it too, and once per Cloud
// that the exchange is about to be discontinued.
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
	c.warnIfExposed(kind, o.File, info)
	c.deprecated.Do(func() {
		c.log.Warn("Yandex Cloud will stop exchanging people's OAuth tokens by the end of 2026: move to service_account_key, metadata or workload_identity, or to a command that runs yc", "file", o.File)
	})
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
	a := attempt{
		what:    fmt.Sprintf("create IAM token at %s with the OAuth token in %s", s.cloud.endpoints.IAM, s.file),
		secrets: []string{s.token.Reveal()},
	}
	//lint:ignore SA1019 the cloud will end this exchange, and until then there is no other for people
	creds := credentials.OAuthToken(s.token.Reveal())
	return s.cloud.exchange(ctx, a, remedies(s.remedy), creds)
}

func (s *oauthSource) remedy(code codes.Code) string {
	switch code {
	case codes.Unauthenticated, codes.InvalidArgument:
		return "the OAuth token expired, was revoked, or is none: get a new one and write it to " + s.file
	case codes.PermissionDenied, codes.NotFound:
		return "the account has no access to Yandex Cloud: accept its terms at https://console.yandex.cloud, or use another account"
	}
	return ""
}
