package oauth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/oauth2"
)

// Client logs people in. Its methods may be called concurrently.
type Client struct{ *application }

// NewClient makes a client of a registered application. It asks nobody.
func NewClient(c Config, app App) *Client { return &Client{newApplication(c, app)} }

// Device is a login that waits for a person to enter a code on a page:
// https://yandex.com/dev/id/doc/en/codes/screen-code-oauth
type Device struct {
	UserCode string
	URL      string // of the page
	Expires  time.Time

	client *Client
	answer *oauth2.DeviceAuthResponse
}

// StartDevice asks for a code. Without scopes the person is asked for all
// permissions of the application.
func (c *Client) StartDevice(ctx context.Context, scopes ...string) (*Device, error) {
	protocol := c.protocol
	protocol.Scopes = scopes
	talk, n := c.talk(ctx)
	answer, err := protocol.DeviceAuth(talk)
	const what = "ask for a code"
	if err != nil {
		return nil, c.failure(ctx, what, n, err, nil)
	}
	page, err := url.Parse(answer.VerificationURI)
	if answer.DeviceCode == "" || !isPrintable(answer.UserCode) || err != nil || page.Scheme != "https" && page.Scheme != "http" || !isPrintable(answer.VerificationURI) {
		return nil, fmt.Errorf("%s at %s: the answer holds no code or no page to enter it on: check endpoints.oauth", what, c.URL)
	}
	if answer.Interval <= 0 || answer.Interval > 600 {
		answer.Interval = 5 // RFC 8628, 3.2
	}
	if answer.Expiry.IsZero() {
		answer.Expiry = time.Now().Add(codeLife)
	}
	return &Device{UserCode: answer.UserCode, URL: answer.VerificationURI, Expires: answer.Expiry, client: c, answer: answer}, nil
}

// codeLife is how long codes live where the service does not say.
const codeLife = 10 * time.Minute

// isPrintable tells whether a text of the service may be put on a terminal.
func isPrintable(s string) bool {
	return s != "" && len(s) <= 500 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// errCodeExpired ends a login that took too long.
var errCodeExpired = errors.New("the code has expired before it was entered: run the command again for another")

// Wait asks until the person has decided, with the pause that the service wants
// after each answer. The network may fail meanwhile.
func (d *Device) Wait(ctx context.Context) (Login, error) {
	const (
		what = "log in with the code"
		over = "the code is used or has expired: run the command again for another"
	)
	pause := time.Duration(d.answer.Interval) * time.Second
	for {
		timer := time.NewTimer(min(pause, max(time.Until(d.Expires), 0)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Login{}, ctx.Err()
		}
		if !time.Now().Before(d.Expires) {
			return Login{}, errCodeExpired
		}
		talk, n := d.client.talk(ctx)
		// Not the library's own loop: it sends the names that RFC 8628 came to
		// have, and counts from question to question, so that a slow answer
		// makes the next question come too early.
		t, err := d.client.protocol.Exchange(talk, d.answer.DeviceCode, oauth2.SetAuthURLParam("grant_type", "device_code"))
		if err == nil {
			return d.client.login(what, t, n)
		}
		f := d.client.failure(ctx, what, n, err, map[string]string{
			codeDenied:       "access was denied on the page: run the command again and allow it",
			codeExpired:      errCodeExpired.Error(),
			codeInvalidGrant: over,
			codeBadCode:      over,
		})
		var refusal *Refusal
		switch {
		case ctx.Err() != nil:
			return Login{}, ctx.Err()
		case !errors.As(f, &refusal):
			if f.Permanent {
				return Login{}, f
			}
			pause = max(pause, min(f.RetryAfter, codeLife))
		case refusal.Code == codePending:
		case refusal.Code == codeSlowDown:
			pause += slowDown
		case f.Permanent:
			return Login{}, f
		}
	}
}

// slowDown is how much longer the pause is after each wish for that: RFC 8628, 3.5.
const slowDown = 5 * time.Second

func (c *Client) login(what string, t *oauth2.Token, n *note) (Login, error) {
	l, err := c.granted(t, n)
	if err == nil && l.stillborn() {
		err = errStillborn
	}
	if err != nil {
		return l, fmt.Errorf("%s at %s: the token it gave %w", what, c.URL, err)
	}
	return l, nil
}

// Confirmation is a login that ends with a code, which the person is shown or
// the browser brings to a loopback address:
// https://yandex.com/dev/id/doc/en/codes/code-url
type Confirmation struct {
	URL string // where the person allows the access

	client          *Client
	verifier, state string
	redirect        string
}

// StartConfirmation prepares a login with PKCE and state. redirect must be one
// of the application's; empty: its first, usually the page that shows the code.
func (c *Client) StartConfirmation(redirect string, scopes ...string) *Confirmation {
	f := &Confirmation{client: c, verifier: oauth2.GenerateVerifier(), state: rand.Text(), redirect: redirect}
	f.URL = f.protocol(scopes).AuthCodeURL(f.state, oauth2.S256ChallengeOption(f.verifier))
	return f
}

func (f *Confirmation) protocol(scopes []string) *oauth2.Config {
	p := f.client.protocol
	p.Scopes, p.RedirectURL = scopes, f.redirect
	return &p
}

// Finish ends the login with what the person pasted: the code, or the whole
// address that the browser was sent to.
func (f *Confirmation) Finish(ctx context.Context, pasted string) (Login, error) {
	pasted = strings.TrimSpace(pasted)
	if u, err := url.Parse(pasted); err == nil && u.Scheme != "" && u.Host != "" {
		return f.Answer(ctx, u.Query())
	}
	return f.redeem(ctx, pasted)
}

// Answer ends the login with the query that the browser brought back.
func (f *Confirmation) Answer(ctx context.Context, q url.Values) (Login, error) {
	switch {
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.state)) != 1:
		return Login{}, ErrForeignAnswer
	case q.Get("error") == codeDenied:
		return Login{}, errors.New("access was denied on the page: run the command again and allow it")
	case q.Get("error") != "" && isCode(q.Get("error")):
		return Login{}, fmt.Errorf("the page answered %s: compare the application's settings at https://oauth.yandex.com with the flags", q.Get("error"))
	}
	return f.redeem(ctx, q.Get("code"))
}

// ErrForeignAnswer is returned for an answer without the state of this login:
// somebody may be trying to slip in a login of their own.
var ErrForeignAnswer = errors.New("this answer belongs to another login (its state is not ours): run the command again, and use the address that it prints then")

func (f *Confirmation) redeem(ctx context.Context, code string) (Login, error) {
	if !isPrintable(code) {
		return Login{}, errors.New("that is no code: the page shows letters and digits after access was allowed")
	}
	const what = "log in with the code"
	talk, n := f.client.talk(ctx)
	t, err := f.protocol(nil).Exchange(talk, code, oauth2.VerifierOption(f.verifier))
	if err != nil {
		const wrong = "the code is wrong, was used before, or is older than ten minutes: run the command again for another"
		return Login{}, f.client.failure(ctx, what, n, err, map[string]string{codeInvalidGrant: wrong, codeBadCode: wrong})
	}
	return f.client.login(what, t, n)
}

// DebugURL is the page that shows a debug token to copy, which has no refresh
// token: https://yandex.com/dev/id/doc/en/tokens/debug-token
func (c *Client) DebugURL(scopes ...string) string {
	q := url.Values{"response_type": {"token"}, "client_id": {c.app.ClientID}}
	if len(scopes) > 0 {
		q.Set("scope", strings.Join(scopes, " "))
	}
	return c.URL + "/authorize?" + q.Encode()
}

// Pasted makes a login of a token that a person copied, or of the whole address
// of the page that showed it, which says how long the token lives.
func (c *Client) Pasted(text string) (Login, error) {
	l := Login{ClientID: c.app.ClientID, IssuedAt: c.Clock().Truncate(time.Second)}
	text = strings.TrimSpace(text)
	if u, err := url.Parse(text); err == nil && u.Scheme != "" && u.Host != "" {
		q, _ := url.ParseQuery(u.Fragment)
		text = q.Get("access_token")
		if seconds, err := strconv.ParseInt(q.Get("expires_in"), 10, 64); err == nil && seconds > 0 && seconds < maxLifetime {
			l.ExpiresAt = l.IssuedAt.Add(time.Duration(seconds) * time.Second)
		}
	}
	var err error
	if l.Access, err = clean(text); err != nil {
		return Login{}, fmt.Errorf("what was pasted %w: copy the token, or the whole address of the page that shows it", err)
	}
	return l, nil
}

// Keep stores a login in a file that a source reads. It waits for a refresh of
// the login that is there; see [CheckKeep].
func (c *Client) Keep(ctx context.Context, path string, l Login) error {
	f := c.Logins.file(path)
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	free, err := f.lockOthers(ctx)
	if err != nil {
		return err
	}
	defer free()
	if err := f.write(path, l); err != nil {
		return fmt.Errorf("store the login: %w", err)
	}
	return nil
}

// CheckKeep tells whether Keep would work, and whether the file that is there
// may be replaced. It writes nothing.
func CheckKeep(path string) error {
	if err := checkWrite(path); err != nil {
		return err
	}
	f, _, err := openRegular(loginKind, path, syscall.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := readAll(loginKind, path, f)
	if err != nil {
		return err
	}
	if len(content) > 0 {
		_, err = decodeLogin(content)
	}
	if errors.Is(err, errForeign) {
		return fmt.Errorf("%s %w: it is not overwritten, name another", path, err)
	}
	return nil
}
