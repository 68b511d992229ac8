package emulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const issuerKeyID = "iam-emulator-issuer"

// federation knows whose OIDC tokens are accepted.
type federation struct {
	audience atomic.Pointer[string]
	own      *ecdsa.PrivateKey
	foreign  map[string]*rsa.PublicKey // by kid, from the JWKS file
}

func newFederation(o Options) (*federation, error) {
	f := &federation{}
	f.audience.Store(&o.Audience)
	var err error
	if f.own, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make the OIDC issuer's key: %w", err)
	}
	if o.JWKS != "" {
		if f.foreign, err = readJWKS(o.JWKS); err != nil {
			return nil, &OptionError{fmt.Errorf("JWKS file %s: %w", o.JWKS, err)}
		}
	}
	return f, nil
}

// readJWKS reads the RSA keys of a key set (RFC 7517).
func readJWKS(file string) (map[string]*rsa.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct {
			KID, KTY, Use, N, E string
		} `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("not a JSON key set: %w", err)
	}
	keys := map[string]*rsa.PublicKey{}
	for i, k := range set.Keys {
		if k.KTY != "RSA" || k.Use != "" && k.Use != "sig" {
			continue
		}
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		exponent, err2 := base64.RawURLEncoding.DecodeString(k.E)
		e := new(big.Int).SetBytes(exponent)
		if err := errors.Join(err1, err2); err != nil || len(n) < 128 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, fmt.Errorf("key %d (kid %q) is not an RSA key with n and e", i+1, k.KID)
		}
		keys[k.KID] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e.Int64())}
	}
	if len(keys) == 0 {
		return nil, errors.New(`no RSA key in it: want what "kubectl get --raw /openid/v1/jwks" prints`)
	}
	return keys, nil
}

// verify checks a subject token and returns its subject, and whether it is of
// the foreign issuer, whose subjects are linked to every account until they are
// linked to one.
func (f *federation) verify(raw string, now func() time.Time) (subject string, foreign bool, err error) {
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256", "RS256"}), jwt.WithAudience(*f.audience.Load()),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(now), jwt.WithLeeway(leeway),
	)
	var claims jwt.RegisteredClaims
	_, err = parser.ParseWithClaims(raw, &claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if kid == issuerKeyID && t.Method.Alg() == "ES256" {
			return &f.own.PublicKey, nil
		}
		if key := f.foreign[kid]; key != nil && t.Method.Alg() == "RS256" {
			foreign = true
			return key, nil
		}
		return nil, refusal("the subject token is signed by an unknown key")
	})
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return "", false, refused
	case errors.Is(err, jwt.ErrTokenExpired):
		return "", false, errors.New("the subject token is expired")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return "", false, errors.New("the audience of the subject token is not one of the federation")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "", false, errors.New("the subject token lacks one of aud, exp")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "", false, errors.New("the signature of the subject token is invalid")
	case err != nil:
		return "", false, errors.New("the subject token is malformed or not valid yet")
	case claims.Issuer == "" || !foreign && claims.Issuer != Issuer:
		return "", false, errors.New("the issuer of the subject token is not the one of the federation")
	}
	return claims.Subject, foreign, nil
}

// SetAudience sets the audience that subject tokens must have from now on.
func (e *Emulator) SetAudience(audience string) { e.federation.audience.Store(&audience) }

// SubjectClaims are what an OIDC token says. Empty fields mean what oidc.jwt has.
type SubjectClaims struct {
	Issuer   string
	Audience []string
	Subject  string
	// Lifetime is from now on the services' clock; negative: already expired.
	Lifetime time.Duration
}

// SignSubject makes an OIDC token of the emulator's own issuer.
func (e *Emulator) SignSubject(s SubjectClaims) (string, error) {
	setDefault(&s.Issuer, Issuer)
	setDefault(&s.Subject, Subject)
	setDefault(&s.Lifetime, e.o.SubjectLifetime)
	if len(s.Audience) == 0 {
		s.Audience = []string{e.o.Audience}
	}
	now := e.now()
	issued := now
	if s.Lifetime < 0 {
		issued = now.Add(s.Lifetime - time.Hour)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{
		Issuer: s.Issuer, Subject: s.Subject, Audience: slices.Clone(s.Audience), ID: randomText(12),
		IssuedAt: jwt.NewNumericDate(issued), NotBefore: jwt.NewNumericDate(issued),
		ExpiresAt: jwt.NewNumericDate(now.Add(s.Lifetime)),
	})
	t.Header["kid"] = issuerKeyID
	raw, err := t.SignedString(e.federation.own)
	if err != nil {
		return "", fmt.Errorf("sign a subject token: %w", err)
	}
	e.tokens.rememberAlso(raw)
	return raw, nil
}
