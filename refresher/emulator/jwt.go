package emulator

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// leeway is how far the clocks of a client and of the services may differ. How
// far the real ones may is not documented.
const leeway = 30 * time.Second

// maxJWTLife is the longest life of a JWT:
// https://yandex.cloud/en/docs/iam/operations/iam-token/create-for-sa
const maxJWTLife = time.Hour

// verifyKeyJWT checks the JWT of a service account key and returns its account
// and key id. Errors are what the client is told.
func (e *Emulator) verifyKeyJWT(raw string) (account, keyID string, err error) {
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodPS256.Alg()}),
		jwt.WithAudience(JWTAudience), jwt.WithIssuedAt(), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(e.now), jwt.WithLeeway(leeway), jwt.WithStrictDecoding(),
	)
	var claims jwt.RegisteredClaims
	var key registeredKey
	_, err = parser.ParseWithClaims(raw, &claims, func(t *jwt.Token) (any, error) {
		keyID, _ = t.Header["kid"].(string)
		if keyID == "" {
			return nil, refusal("JWT has no kid")
		}
		var ok bool
		if key, ok = e.dir.key(keyID); !ok {
			return nil, refusal("key " + cut(keyID) + " does not exist")
		}
		return key.public, nil
	})
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return "", "", refused
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", "", errors.New("JWT is expired")
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "", "", errors.New("JWT is issued in the future: iat is later than now")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return "", "", errors.New("JWT has a wrong audience: want " + JWTAudience)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "", "", errors.New("JWT lacks one of aud, exp, iat")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "", "", errors.New("JWT signature is invalid: want PS256 by the key that kid names")
	case err != nil:
		return "", "", errors.New("JWT is malformed")
	case claims.IssuedAt == nil:
		return "", "", errors.New("JWT lacks one of aud, exp, iat")
	case claims.ExpiresAt.Sub(claims.IssuedAt.Time) > maxJWTLife:
		return "", "", errors.New("JWT lives too long: exp may be at most one hour after iat")
	case !claims.ExpiresAt.After(claims.IssuedAt.Time):
		return "", "", errors.New("JWT expires before it is issued")
	case claims.Issuer != key.account:
		return "", "", errors.New("JWT iss is not the service account of the key")
	case !e.dir.alive(key.account):
		return "", "", fmt.Errorf("service account %s was deleted", key.account)
	}
	return key.account, keyID, nil
}

// refusal is an error whose text the client is told as it stands.
type refusal string

func (r refusal) Error() string { return string(r) }

// cut shortens what a client sent before it is repeated to it.
func cut(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
