package iam

import (
	"crypto/rsa"
	"runtime"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"github.com/yandex-cloud/go-sdk/v2/credentials"
)

// jwtAudience is whom a JWT is for, jwtLife how long it may be used at most.
// https://yandex.cloud/en/docs/iam/operations/iam-token/create-for-sa#jwt-create
const (
	jwtAudience = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
	jwtLife     = time.Hour
)

// signer is the credentials of an authorized key: a JWT signed with PS256. The
// SDK's own take the key as PEM, which they would parse again for every mint,
// and date the JWT by the local clock, which may be wrong when the servers' time
// is known.
type signer struct {
	id, account string
	private     *rsa.PrivateKey
	now         time.Time // as the servers see it
	turns       turns
}

// turns are taken for a signature, which is a millisecond of nothing but
// computing: of more than there are cores none would be ready sooner, and each
// takes a stack of its own. Nobody waits for a turn longer than that takes.
type turns chan struct{}

func newTurns() turns { return make(turns, runtime.GOMAXPROCS(0)) }

func (t turns) take() (done func()) {
	t <- struct{}{}
	return func() { <-t }
}

var _ credentials.ExchangeableCredentials = signer{}

// YandexCloudAPICredentials implements [credentials.Credentials].
func (signer) YandexCloudAPICredentials() {}

// IAMTokenRequest implements [credentials.ExchangeableCredentials].
func (s signer) IAMTokenRequest() (*credentials.CredentialsTokenRequest, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims{
		"iss": s.account, "aud": jwtAudience, "iat": s.now.Unix(), "exp": s.now.Add(jwtLife).Unix(),
	})
	token.Header["kid"] = s.id
	done := s.turns.take()
	signed, err := token.SignedString(s.private)
	done()
	if err != nil {
		return nil, err
	}
	return &credentials.CredentialsTokenRequest{Token: signed, Identity: credentials.CredentialsIdentityJWT}, nil
}
