package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"iam-token-refresher/refresher"
)

// format is the version of the files. A program reads its own format only.
const format = 1

// record is the state of one token.
type record struct {
	Token       string    `json:"token"`
	Fingerprint string    `json:"fingerprint"`
	Lineage     string    `json:"lineage"`
	N           uint64    `json:"n"`
	Value       []byte    `json:"value"` // base64: a value need not be UTF-8, and stays what it is
	Type        string    `json:"type"`
	MintedAt    time.Time `json:"minted_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	PublishedAt time.Time `json:"published_at,omitzero"`

	Verdict refresher.Verdict `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
}

// envelope is a file. Its sum is over the bytes of the state as they stand.
type envelope struct {
	Format int             `json:"format"`
	Sum    string          `json:"sha256"`
	State  json.RawMessage `json:"state"`
}

func newRecord(token, fingerprint string, v refresher.Version, f refresher.Finding) record {
	return record{
		Token:       token,
		Fingerprint: fingerprint,
		Lineage:     v.Lineage,
		N:           v.N,
		Value:       []byte(v.Value.Reveal()),
		Type:        v.Type,
		MintedAt:    v.MintedAt.UTC(),
		ExpiresAt:   v.ExpiresAt.UTC(),
		PublishedAt: v.PublishedAt.UTC(),
		Verdict:     f.Verdict,
		Reason:      f.Reason,
	}
}

func (r record) version() refresher.Version {
	return refresher.Version{
		Token:       r.Token,
		Lineage:     r.Lineage,
		N:           r.N,
		Value:       refresher.NewValue(string(r.Value)),
		Type:        r.Type,
		MintedAt:    r.MintedAt,
		ExpiresAt:   r.ExpiresAt,
		PublishedAt: r.PublishedAt,
	}
}

func (r record) finding() refresher.Finding {
	return refresher.Finding{Verdict: r.Verdict, Reason: r.Reason}
}

func encode(r record) ([]byte, error) {
	state, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode it: %w", err) // a year after 9999
	}
	return seal(state), nil
}

func seal(state []byte) []byte {
	sum := sha256.Sum256(state)
	data := make([]byte, 0, len(state)+128)
	data = fmt.Appendf(data, `{"format":%d,"sha256":"%s","state":`, format, hex.EncodeToString(sum[:]))
	data = append(data, state...)
	return append(data, "}\n"...)
}

// Errors about a file's content. None of them holds any of it: the json
// package's errors quote what they stumble over.
var (
	errEmpty     = errors.New("it is empty")
	errNotJSON   = errors.New("it is not JSON")
	errChecksum  = errors.New("its checksum is wrong: it was damaged or edited")
	errForeign   = errors.New("it is the state of another token: it was copied or renamed")
	errUnknown   = errors.New("it holds what this program does not know: it was written by another version of it")
	errNoVersion = errors.New("it holds no version")
)

// decode returns the record only when data is exactly what encode made of one.
func decode(data []byte, token string) (record, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return record{}, errEmpty
	}
	var e envelope
	if json.Unmarshal(data, &e) != nil {
		return record{}, errNotJSON
	}
	if e.Format != format {
		return record{}, fmt.Errorf("its format is %d, this program reads %d: it was written by another version of it", e.Format, format)
	}
	if !bytes.Equal(seal(e.State), data) {
		return record{}, errChecksum
	}
	var r record
	if json.Unmarshal(e.State, &r) != nil {
		return record{}, errUnknown
	}
	switch {
	case r.Token != token:
		return record{}, errForeign
	case r.Lineage == "" || r.N == 0 || len(r.Value) == 0:
		return record{}, errNoVersion
	}
	return r, nil
}
