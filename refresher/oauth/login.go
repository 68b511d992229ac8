package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"iam-token-refresher/refresher"
)

// Login is what an application gets when a person lets it in.
type Login struct {
	ClientID string
	Access   refresher.Value
	// Refresh gets the next pair; a login that was pasted has none.
	Refresh refresher.Value
	// IssuedAt and ExpiresAt are wall time as the server sees it. A zero
	// ExpiresAt: nobody said.
	IssuedAt, ExpiresAt time.Time
	// RefusedAt is when it was last refreshed because Tracker had rejected the
	// access token before its time; zero: never since the person logged in.
	RefusedAt time.Time
}

const day = 24 * time.Hour

// RenewAt is when the login is to be refreshed: at a third of its life, at most
// daily, and at half of it whatever happens. It is zero when nobody knows when
// it ends.
func (l Login) RenewAt() time.Time {
	if l.ExpiresAt.IsZero() {
		return time.Time{}
	}
	life := l.ExpiresAt.Sub(l.IssuedAt)
	return l.IssuedAt.Add(min(max(life/3, day), life/2))
}

func (l Login) expiredAt(now time.Time) bool {
	return !l.ExpiresAt.IsZero() && !now.Before(l.ExpiresAt)
}

// stillborn tells whether the token had expired when it was issued.
func (l Login) stillborn() bool { return l.expiredAt(l.IssuedAt) }

// errStillborn continues a sentence about a token.
var errStillborn = errors.New("has expired")

func (l Login) minted(serverTime time.Time) refresher.Minted {
	return refresher.Minted{Value: l.Access, Type: refresher.TypeOAuth, ExpiresAt: l.ExpiresAt, ServerTime: serverTime}
}

// stored is a login in its file.
type stored struct {
	About        string     `json:"about"`
	ClientID     string     `json:"client_id"`
	AccessToken  string     `json:"access_token"`
	RefreshToken string     `json:"refresh_token,omitempty"`
	IssuedAt     time.Time  `json:"issued_at"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"`
	RefusedAt    *time.Time `json:"refused_at,omitempty"`
}

// about tells whoever opens the file what it is, and us that it is ours.
const about = "a Yandex OAuth login, kept by iam-token-refresher: secret"

func (l Login) encode() ([]byte, error) {
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	b, err := json.MarshalIndent(stored{
		About: about, ClientID: l.ClientID, AccessToken: l.Access.Reveal(), RefreshToken: l.Refresh.Reveal(),
		IssuedAt: l.IssuedAt.UTC(), ExpiresAt: moment(l.ExpiresAt), RefusedAt: moment(l.RefusedAt),
	}, "", "  ")
	if err != nil {
		return nil, errors.New("the login cannot be written as JSON")
	}
	return append(b, '\n'), nil
}

// errCut and errForeign continue a sentence about a file.
var (
	errCut     = errors.New("is cut short or damaged")
	errForeign = errors.New("holds something else than a login")
)

// decodeLogin reads what encode wrote. The error says nothing of the content.
func decodeLogin(data []byte) (Login, error) {
	var s stored
	err := json.Unmarshal(data, &s)
	switch {
	case err != nil && strings.Contains(string(data), about):
		return Login{}, errCut
	case err != nil, s.About != about:
		return Login{}, errForeign
	}
	l := Login{ClientID: s.ClientID, IssuedAt: s.IssuedAt}
	if s.ExpiresAt != nil {
		l.ExpiresAt = *s.ExpiresAt
	}
	if s.RefusedAt != nil {
		l.RefusedAt = *s.RefusedAt
	}
	if l.Access, err = clean(s.AccessToken); err == nil && s.RefreshToken != "" {
		l.Refresh, err = clean(s.RefreshToken)
	}
	if err != nil || l.ClientID == "" || l.IssuedAt.IsZero() {
		return Login{}, errCut
	}
	return l, nil
}

// maxValue bounds what is taken for a token, in bytes.
const maxValue = 16 << 10

// clean refuses what cannot be a token in a header. The format is not looked at.
func clean(text string) (refresher.Value, error) {
	switch {
	case text == "":
		return refresher.Value{}, errors.New("is empty")
	case len(text) > maxValue:
		return refresher.Value{}, fmt.Errorf("has %d bytes; a token has at most %d", len(text), maxValue)
	}
	for i := range len(text) {
		if b := text[i]; b <= ' ' || b >= 0x7f {
			return refresher.Value{}, fmt.Errorf("has a blank, a control character or one beyond ASCII at byte %d of %d; a token has none", i+1, len(text))
		}
	}
	return refresher.NewValue(text), nil
}
