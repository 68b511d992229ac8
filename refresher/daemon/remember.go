package daemon

import (
	"context"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/redact"
)

// remembering is a source whose values the log's filter knows before anybody
// else has them.
type remembering struct {
	refresher.Source
	filter *redact.Filter
	// purpose tells apart sources of one identity that have values of their own.
	purpose string
}

// Mint implements [refresher.Source].
func (s *remembering) Mint(ctx context.Context) (refresher.Minted, error) {
	m, err := s.Source.Mint(ctx)
	if err == nil {
		s.filter.Remember(s.purpose+s.Identity(), m.Value)
	}
	return m, err
}

// rememberingStore is a store whose values the log's filter knows for as long as
// they are a token's, however often others of the same identity mint.
type rememberingStore struct {
	refresher.Store
	filter *redact.Filter
}

// Load implements [refresher.Store].
func (s *rememberingStore) Load(token, fingerprint string) (refresher.Version, refresher.Finding, bool, error) {
	v, f, ok, err := s.Store.Load(token, fingerprint)
	if ok {
		s.remember(token, v)
	}
	return v, f, ok, err
}

// Save implements [refresher.Store].
func (s *rememberingStore) Save(ctx context.Context, token, fingerprint string, v refresher.Version, f refresher.Finding) error {
	s.remember(token, v)
	return s.Store.Save(ctx, token, fingerprint, v, f)
}

func (s *rememberingStore) remember(token string, v refresher.Version) {
	s.filter.Remember("saved "+token, v.Value)
}
