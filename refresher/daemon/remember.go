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
}

// Mint implements [refresher.Source].
func (s *remembering) Mint(ctx context.Context) (refresher.Minted, error) {
	m, err := s.Source.Mint(ctx)
	if err == nil {
		s.filter.Remember(s.Identity(), m.Value)
	}
	return m, err
}

// rememberingStore is a store whose loaded values the log's filter knows.
type rememberingStore struct {
	refresher.Store
	filter *redact.Filter
}

// Load implements [refresher.Store].
func (s *rememberingStore) Load(token, fingerprint string) (refresher.Version, refresher.Finding, bool, error) {
	v, f, ok, err := s.Store.Load(token, fingerprint)
	if ok {
		s.filter.Remember("saved "+token, v.Value)
	}
	return v, f, ok, err
}
