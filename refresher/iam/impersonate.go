package iam

import (
	"context"
	"fmt"
	"strings"
	"time"

	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	iamsdk "github.com/yandex-cloud/go-sdk/v2/services/iam/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"iam-token-refresher/refresher"
)

// Impersonate makes a source of the tokens of a service account that whoever
// base belongs to may act for. Each mint asks base first. Impersonations stack.
// https://yandex.cloud/en/docs/iam/operations/sa/impersonate-sa
func Impersonate(c *Cloud, base refresher.Source, serviceAccountID string) refresher.Source {
	return &impersonation{cloud: c, base: base, account: serviceAccountID}
}

type impersonation struct {
	cloud   *Cloud
	base    refresher.Source
	account string
}

func (s *impersonation) Identity() string {
	return s.base.Identity() + impersonating + s.account + " at " + s.cloud.endpoints.IAM
}

const impersonating = ", impersonating "

// ImpersonatedBy is the base's identity in that of an impersonation.
func ImpersonatedBy(identity string) string {
	base, _, _ := strings.Cut(identity, impersonating)
	return base
}

func (s *impersonation) Mint(ctx context.Context) (refresher.Minted, error) {
	own, err := s.base.Mint(ctx)
	if err != nil {
		return refresher.Minted{}, fmt.Errorf("to impersonate %s: %w", s.account, err)
	}
	a := attempt{
		what:    fmt.Sprintf("create IAM token for service account %s at %s, as %s", s.account, s.cloud.endpoints.IAM, s.base.Identity()),
		secrets: []string{own.Value.Reveal()},
	}
	return s.cloud.call(ctx, a, remedies(s.remedy), func(ctx context.Context, client iamsdk.IamTokenClient) (string, time.Time, error) {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+own.Value.Reveal())
		token, err := client.CreateForServiceAccount(ctx, &iampb.CreateIamTokenForServiceAccountRequest{ServiceAccountId: s.account})
		if err != nil {
			return "", time.Time{}, err
		}
		return token.GetIamToken(), token.GetExpiresAt().AsTime(), nil
	})
}

func (s *impersonation) remedy(code codes.Code) string {
	switch code {
	case codes.Unauthenticated:
		return "the source's own token is not accepted: it expired or was revoked; check the source without impersonate"
	case codes.PermissionDenied, codes.NotFound:
		return "the account does not exist, or the source's own account may not act for it: grant it iam.serviceAccounts.tokenCreator on " + s.account
	case codes.InvalidArgument:
		return "check the service account id under impersonate"
	}
	return ""
}
