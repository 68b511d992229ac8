package iam

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"iam-token-refresher/refresher"
)

// fixed is a source with one answer.
type fixed struct {
	minted refresher.Minted
	err    error
}

func (f fixed) Identity() string                               { return "fixed" }
func (f fixed) Mint(context.Context) (refresher.Minted, error) { return f.minted, f.err }

func TestImpersonationAsksWithTheSourcesOwnToken(t *testing.T) {
	t.Parallel()
	const own, other = "own-recognisable", "other-recognisable" // of no known shape
	f := &fakeIAM{forAccount: func(ctx context.Context, r *iampb.CreateIamTokenForServiceAccountRequest) (*iampb.CreateIamTokenResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		who := strings.Join(md.Get("authorization"), ",")
		switch r.GetServiceAccountId() {
		case "aje1":
			if who != "Bearer "+own {
				return nil, status.Error(codes.Unauthenticated, who)
			}
			return gives(other, time.Hour)(nil)
		case "aje2":
			if who != "Bearer "+other {
				return nil, status.Error(codes.Unauthenticated, who)
			}
			return gives(secret, time.Hour)(nil)
		}
		return nil, status.Error(codes.PermissionDenied, "Permission denied for "+who)
	}}
	c := f.start(t)
	base := fixed{minted: refresher.Minted{Value: refresher.NewValue(own), Type: refresher.TypeIAM}}
	one := Impersonate(c, base, "aje1")
	two := Impersonate(c, one, "aje2")
	m, err := two.Mint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Value.Reveal() != secret {
		t.Errorf("another token came")
	}
	if want := "fixed, impersonating aje1 at " + f.address + ", impersonating aje2 at " + f.address; two.Identity() != want {
		t.Errorf("identity %q", two.Identity())
	}

	got := failure(t, Impersonate(c, base, "aje3"))
	wantText(t, got, "for service account aje3", f.address, "as fixed", "PERMISSION_DENIED", "iam.serviceAccounts.tokenCreator")
	if strings.Contains(got.Error(), own) || !got.Permanent {
		t.Errorf("permanent = %v: %v", got.Permanent, got)
	}
	got = failure(t, Impersonate(c, base, "aje2"))
	wantText(t, got, "UNAUTHENTICATED", "the source's own token is not accepted")
	if strings.Contains(got.Error(), own) {
		t.Error("the source's own token is in the error")
	}
}

func TestImpersonationHandsOnWhatItsSourceSays(t *testing.T) {
	t.Parallel()
	cause := &refresher.Failure{Err: errors.New("no account here"), Permanent: true, RetryAfter: time.Minute}
	got := failure(t, Impersonate(newCloud(t, Config{}), fixed{err: cause}, "aje1"))
	wantText(t, got, "to impersonate aje1: no account here")
	if !got.Permanent || got.RetryAfter != time.Minute {
		t.Errorf("permanent %v, retry after %s", got.Permanent, got.RetryAfter)
	}
}
