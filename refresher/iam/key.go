package iam

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unique"
)

// keyFile is what `yc iam key create --output` writes, as far as it is needed.
// https://yandex.cloud/en/docs/iam/operations/authentication/manage-authorized-keys
type keyFile struct {
	ID               string `json:"id"`
	ServiceAccountID string `json:"service_account_id"`
	UserAccountID    string `json:"user_account_id"`
	PublicKey        string `json:"public_key"`
	PrivateKey       string `json:"private_key"`
}

// privateKey is the PEM of an RSA key, as short as it can be. Keeping each
// parsed key would cost three times as much, and parsing takes a quarter of a
// signature. The handle lets sources of one key share it, and hides it from
// printing.
type privateKey = unique.Handle[string]

// authorizedKey is a key of a service account.
type authorizedKey struct {
	id, account string
	private     privateKey
}

// keyMemo remembers the last key that was checked, and the last that was used
// in its parsed form: a thousand tokens may be configured with one key, under a
// thousand ids even.
type keyMemo struct {
	mu      sync.Mutex
	sum     [sha256.Size]byte
	private privateKey

	used    privateKey
	usedRSA *rsa.PrivateKey
}

// parsed returns a key to sign with.
func (m *keyMemo) parsed(private privateKey) (*rsa.PrivateKey, error) {
	m.mu.Lock()
	if m.used == private {
		defer m.mu.Unlock()
		return m.usedRSA, nil
	}
	m.mu.Unlock() // different keys are parsed at the same time
	block, _ := pem.Decode([]byte(private.Value()))
	key, err := parseRSA(block)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.usedRSA = private, key
	return key, nil
}

// parseKey reads a key file. Errors say what is wrong, never what is in it; they
// continue a sentence about the file.
func (m *keyMemo) parseKey(content []byte) (authorizedKey, error) {
	if trimmed := bytes.TrimSpace(content); len(trimmed) == 0 {
		return authorizedKey{}, errors.New("is empty")
	} else if bytes.HasPrefix(trimmed, []byte("-----BEGIN")) {
		return authorizedKey{}, errors.New("is a bare PEM key: the JSON file around it is needed, it has the id of the key")
	}
	var file keyFile
	if err := json.Unmarshal(content, &file); err != nil {
		return authorizedKey{}, errors.New(jsonProblem(err))
	}
	switch {
	case file.ID == "":
		return authorizedKey{}, errors.New(`has no "id"`)
	case file.ServiceAccountID == "" && file.UserAccountID != "":
		return authorizedKey{}, errors.New("is a user's key: IAM takes keys of service accounts only")
	case file.ServiceAccountID == "":
		return authorizedKey{}, errors.New(`has no "service_account_id"`)
	case file.PrivateKey == "":
		return authorizedKey{}, errors.New(`has no "private_key"`)
	}
	for _, id := range []string{file.ID, file.ServiceAccountID} {
		if _, err := clean(id); err != nil || len(id) > 100 {
			return authorizedKey{}, errors.New(`has an "id" or "service_account_id" that is no id`)
		}
	}
	private, err := m.check(file.PrivateKey, file.PublicKey)
	if err != nil {
		return authorizedKey{}, err
	}
	return authorizedKey{id: file.ID, account: file.ServiceAccountID, private: private}, nil
}

// check parses the keys and returns the private one in its shortest form. A
// preamble is passed over: the file has a line above the PEM.
func (m *keyMemo) check(private, public string) (privateKey, error) {
	block, rest := pem.Decode([]byte(private))
	switch {
	case block == nil && !strings.Contains(private, "-----BEGIN"):
		return privateKey{}, errors.New(`has a "private_key" that is not PEM`)
	case block == nil:
		return privateKey{}, errors.New(`has a "private_key" with a broken PEM: copy the file anew, line ends included`)
	case len(bytes.TrimSpace(rest)) > 0:
		return privateKey{}, errors.New(`has something after the PEM in its "private_key"`)
	}
	sum := sha256.Sum256(bytes.Join([][]byte{block.Bytes, []byte(public)}, nil))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sum == sum {
		return m.private, nil
	}
	key, err := parseRSA(block)
	if err != nil {
		return privateKey{}, err
	}
	if public != "" && !matches(key, public) {
		return privateKey{}, errors.New(`has a "public_key" that does not belong to its "private_key": make a new key with yc iam key create`)
	}
	m.sum = sum
	m.private = unique.Make(string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
	m.used, m.usedRSA = m.private, key
	return m.private, nil
}

func parseRSA(block *pem.Block) (*rsa.PrivateKey, error) {
	if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
		return nil, errors.New(`has an encrypted "private_key": it must be readable without a password`)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New(`has a "private_key" that is no valid key: copy the file anew`)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New(`has a "private_key" that is not RSA: IAM's authorized keys are RSA`)
	}
	return rsaKey, nil
}

func matches(private *rsa.PrivateKey, public string) bool {
	block, _ := pem.Decode([]byte(public))
	if block == nil {
		return false
	}
	if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
		return private.PublicKey.Equal(key)
	}
	key, err := x509.ParsePKCS1PublicKey(block.Bytes)
	return err == nil && private.PublicKey.Equal(key)
}

// jsonProblem says where JSON is wrong without its contents, which
// encoding/json would quote. It continues a sentence.
func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("is not valid JSON (byte %d)", syntax.Offset)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Sprintf("is JSON of another form: %q has the wrong type", kind.Field)
	}
	return "is JSON of another form"
}
