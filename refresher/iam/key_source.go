package iam

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/textfile"
)

// KeyOptions is the source service_account_key: a JWT signed with the authorized
// key of a service account is exchanged for a token.
// https://yandex.cloud/en/docs/iam/operations/iam-token/create-for-sa#via-jwt
type KeyOptions struct {
	File string `yaml:"file" doc:"authorized key of the service account, as written by yc iam key create --output" check:"required,path"`
}

// Validate implements the check of the options.
func (o KeyOptions) Validate() error {
	if o.File == "" {
		return missing("file", "/etc/iam-token-refresher/key.json")
	}
	return nil
}

// Rebuild lists the files that New reads: a change needs a new source.
func (o KeyOptions) Rebuild() []string { return []string{o.File} }

// Inputs lists the files whose change should start a refresh.
func (o KeyOptions) Inputs() []string { return nil }

// New reads and checks the key. It warns when others may read it too.
func (o KeyOptions) New(c *Cloud) (refresher.Source, error) {
	const kind = "key file"
	content, info, err := readFile(kind, o.File)
	if err != nil {
		return nil, invalidFile(err)
	}
	key, err := c.keys.parseKey(content)
	if err != nil {
		return nil, invalidFile(fmt.Errorf("%s %s %w", kind, o.File, err))
	}
	textfile.WarnIfExposed(c.log, kind, o.File, info)
	return &keySource{
		cloud: c, key: key,
		identity: c.keyIdentity(key.account),
	}, nil
}

const keyIdentity = "service_account_key of "

func (c *Cloud) keyIdentity(account string) string {
	return keyIdentity + account + " at " + c.endpoints.IAM
}

// Substitute is for a key that New refuses because of cause: a source of the
// identity of an earlier key, which mints nothing, so that what was saved is
// served until the key is put right. It is nil where identity is not that of a
// key, or the file still names another account.
func (o KeyOptions) Substitute(c *Cloud, identity string, cause error) refresher.Source {
	content, _, _ := readFile("key file", o.File)
	var file keyFile
	_ = json.Unmarshal(content, &file)
	if !strings.HasPrefix(identity, keyIdentity) || file.ServiceAccountID != "" && identity != c.keyIdentity(file.ServiceAccountID) {
		return nil
	}
	return &unusableKey{identity, cause}
}

// unusableKey mints nothing.
type unusableKey struct {
	identity string
	cause    error
}

func (s *unusableKey) Identity() string { return s.identity }

func (s *unusableKey) Mint(context.Context) (refresher.Minted, error) {
	return refresher.Minted{}, &refresher.Failure{Err: s.cause, Permanent: true}
}

// invalidFile makes err a mistake in the option file.
func invalidFile(err error) error {
	return &refresher.Invalid{Field: "file", Problem: err.Error()}
}

type keySource struct {
	cloud    *Cloud
	key      authorizedKey
	identity string
}

func (s *keySource) Identity() string { return s.identity }

func (s *keySource) Mint(ctx context.Context) (refresher.Minted, error) {
	a := attempt{what: fmt.Sprintf("create IAM token at %s with key %s", s.cloud.endpoints.IAM, s.key.id)}
	private, err := s.cloud.keys.parsed(s.key.private)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: "the key " + err.Error(), permanent: true})
	}
	creds := signer{id: s.key.id, account: s.key.account, private: private, now: s.cloud.now(), turns: s.cloud.signing}
	return s.cloud.exchange(ctx, a, s.advise, creds)
}

func (s *keySource) advise(ctx context.Context, code codes.Code, t *trouble) {
	renew := "make a new one with yc iam key create --service-account-id " + s.key.account
	switch code {
	case codes.Unauthenticated:
		if t.serverTime.IsZero() {
			t.serverTime = s.cloud.askTime(ctx)
		}
		if wrong := s.cloud.skewText(t.serverTime); wrong != "" {
			t.remedy = wrong + ", which makes signatures invalid: set it, for example with timedatectl set-ntp true"
			t.permanent = false // time synchronization may be under way
			return
		}
		t.remedy = "the key was deleted or belongs to another account, or the account is gone: " + renew
		if t.serverTime.IsZero() {
			t.remedy += "; or this machine's clock is wrong"
		}
	case codes.NotFound, codes.PermissionDenied:
		t.remedy = "the service account " + s.key.account + " was deleted or blocked: check it with yc iam service-account get " + s.key.account
	case codes.InvalidArgument:
		t.remedy = "check the key file, or " + renew
	}
}
