package iam

import (
	"crypto/rsa"
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
	signed, err := token.SignedString(s.private)
	if err != nil {
		return nil, err
	}
	return &credentials.CredentialsTokenRequest{Token: signed, Identity: credentials.CredentialsIdentityJWT}, nil
}
