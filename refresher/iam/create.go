package iam

import (
	"context"
	"net/http"
	"time"

	"github.com/yandex-cloud/go-sdk/v2/credentials"
	"github.com/yandex-cloud/go-sdk/v2/pkg/authentication"
	iamsdk "github.com/yandex-cloud/go-sdk/v2/services/iam/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/httpanswer"
)

// answer is what an interceptor saw of a call beside its result.
type answer struct {
	serverTime time.Time
	requestID  string
}

type answerKey struct{}

// noteAnswer reads the headers of an answer into the *answer in ctx: the SDK's
// methods have no way out for them.
func noteAnswer(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	noted, ok := ctx.Value(answerKey{}).(*answer)
	if !ok {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var header, trailer metadata.MD
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
	both := metadata.Join(header, trailer)
	noted.serverTime = httpanswer.Date(http.Header{"Date": both.Get("date"), "Age": both.Get("age")})
	if id := both.Get("x-request-id"); len(id) > 0 {
		noted.requestID = id[0]
	}
	return err
}

// exchange has IAM make a token of creds.
func (c *Cloud) exchange(ctx context.Context, a attempt, advise advice, creds credentials.Credentials) (refresher.Minted, error) {
	return c.call(ctx, a, advise, func(ctx context.Context, client iamsdk.IamTokenClient) (string, time.Time, error) {
		token, err := authentication.NewAuthenticator(zap.NewNop(), creds, client).CreateIAMToken(ctx)
		if err != nil {
			return "", time.Time{}, err
		}
		return token.GetIamToken(), token.GetExpiresAt(), nil
	})
}

// call makes one call on the shared connection.
func (c *Cloud) call(
	ctx context.Context, a attempt, advise advice,
	do func(context.Context, iamsdk.IamTokenClient) (string, time.Time, error),
) (refresher.Minted, error) {
	a.began = time.Now()
	ch, err := c.iam.acquire()
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: err.Error()})
	}
	var noted answer
	value, expiresAt, err := do(context.WithValue(ctx, answerKey{}, &noted), iamsdk.NewIamTokenClient(ch))
	c.iam.release(ch, err != nil && (ctx.Err() != nil || ch.GetState() != connectivity.Ready))
	if err != nil {
		return refresher.Minted{}, a.failed(c.refused(ctx, a, advise, noted, err))
	}
	if value != "" && expiresAt.Unix() <= 0 { // the SDK turns a missing timestamp into 1970
		return refresher.Minted{}, a.failed(trouble{problem: "the answer does not say when the token expires", serverTime: noted.serverTime})
	}
	return c.minted(a, value, expiresAt, noted.serverTime)
}
