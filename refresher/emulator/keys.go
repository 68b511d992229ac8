package emulator

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// Key is an authorized key of a service account.
type Key struct {
	ID      string
	Account string
	// File is what `yc iam key create -o FILE` would have written. Secret.
	File []byte
}

// KeyOptions say how [Emulator.NewKey] makes a key. The zero value makes a
// working one in microseconds.
type KeyOptions struct {
	// OwnRSA: the key has an RSA pair of its own, which takes a while to
	// make, instead of the one that all keys share.
	OwnRSA bool
	// Mismatched: IAM knows the key's id with another public key than the
	// file's private one, so that every signature is wrong. Implies OwnRSA.
	Mismatched bool
}

// rsaPair is a private key with what key files hold of it.
type rsaPair struct {
	public                *rsa.PublicKey
	privatePEM, publicPEM string
}

// newRSAPair encodes a key, or makes one if private is nil.
func newRSAPair(private *rsa.PrivateKey) (rsaPair, error) {
	if private == nil {
		var err error
		if private, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return rsaPair{}, fmt.Errorf("generate an RSA key: %w", err)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return rsaPair{}, fmt.Errorf("encode the RSA key: %w", err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return rsaPair{}, fmt.Errorf("encode the public RSA key: %w", err)
	}
	return rsaPair{
		public:     &private.PublicKey,
		privatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		publicPEM:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})),
	}, nil
}

// keyFile is the JSON that yc writes:
// https://yandex.cloud/en/docs/iam/operations/authentication/manage-authorized-keys
type keyFile struct {
	ID               string `json:"id"`
	ServiceAccountID string `json:"service_account_id"`
	CreatedAt        string `json:"created_at"`
	KeyAlgorithm     string `json:"key_algorithm"`
	PublicKey        string `json:"public_key"`
	PrivateKey       string `json:"private_key"`
}

func (p rsaPair) file(id, account string, created time.Time) ([]byte, error) {
	b, err := json.MarshalIndent(keyFile{
		ID: id, ServiceAccountID: account,
		CreatedAt:    created.UTC().Format(time.RFC3339Nano),
		KeyAlgorithm: fmt.Sprintf("RSA_%d", p.public.N.BitLen()),
		PublicKey:    p.publicPEM,
		PrivateKey:   "PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <" + id + ">\n" + p.privatePEM,
	}, "", "   ")
	return append(b, '\n'), err
}

// randomID makes an id as the cloud's: 20 characters, three of them a prefix.
func randomID(prefix string) string {
	text := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(randomBytes(11))
	return prefix + strings.ToLower(text)[:20-len(prefix)]
}

// NewKey makes another key for an account and registers it. The caller owns
// the result.
func (e *Emulator) NewKey(account string, o KeyOptions) (Key, error) {
	if !e.dir.alive(account) {
		return Key{}, fmt.Errorf("make a key: there is no account %q", account)
	}
	id := randomID("aje")
	pair := e.shared
	if o.OwnRSA || o.Mismatched {
		own, err := newRSAPair(nil)
		if err != nil {
			return Key{}, err
		}
		pair = own
		e.rememberPrivate(pair.privatePEM)
	}
	file, err := pair.file(id, account, e.now())
	if err != nil {
		return Key{}, fmt.Errorf("encode key %s: %w", id, err)
	}
	public := pair.public
	if o.Mismatched {
		public = e.shared.public
	}
	e.dir.addKey(id, registeredKey{account, public})
	return Key{ID: id, Account: account, File: file}, nil
}

// DeleteKey deletes a key; the tokens that it was used for die with it. It
// tells whether the key existed.
func (e *Emulator) DeleteKey(id string) bool {
	ok := e.dir.deleteKey(id)
	e.tokens.revokeIf(func(t token) bool { return t.key == id })
	return ok
}
