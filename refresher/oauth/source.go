package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"iam-token-refresher/refresher"
)

// source gives the token of a stored login. Most mints read the file and give
// what is in it: the same value again, which is not news to anybody. A mint that
// finds the login old, or its token rejected, refreshes it first.
type source struct {
	*application
	options Options
	file    *loginFile
}

// Identity implements [refresher.Source]. Whose login is in the file, nobody
// says.
func (s *source) Identity() string {
	return "oauth login in " + s.options.TokenFile + " at " + s.URL
}

// again is how a person logs in anew: a command for a shell.
func (s *source) again() string {
	command := []string{"log in again: iam-token-refresher login --client-id", s.app.ClientID}
	if s.options.ClientSecretFile != "" {
		command = append(command, "--client-secret-file", word(s.options.ClientSecretFile))
	}
	return strings.Join(append(command, "--token-file", word(s.options.TokenFile)), " ")
}

// word returns a path so that a shell reads it as that one word.
func word(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return r < 0x80 && r != '_' && !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/.,:@%+=-", r))
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// read reads the login, which must be one of our application.
func (s *source) read() (Login, error) {
	l, err := readLogin(s.options.TokenFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l, fmt.Errorf("%w: %s", err, strings.Replace(s.again(), "log in again", "log in", 1))
	case errors.Is(err, errCut), errors.Is(err, errForeign):
		return l, fmt.Errorf("%w: %s", err, s.again())
	case err == nil && l.ClientID != s.app.ClientID:
		return l, fmt.Errorf("%s %s is of application %s: set client_id to that, or %s", loginKind, s.options.TokenFile, l.ClientID, s.again())
	}
	return l, err
}

// Mint implements [refresher.Source].
func (s *source) Mint(ctx context.Context) (refresher.Minted, error) {
	unlock, err := s.file.lock(ctx)
	if err != nil {
		return refresher.Minted{}, err
	}
	defer unlock()
	l, err := s.read()
	if err != nil {
		return refresher.Minted{}, &refresher.Failure{Err: err, Permanent: true}
	}
	m, err := s.mint(ctx, l)
	if err == nil {
		s.file.given, s.file.givenAt = m.Value, s.Clock()
	}
	return m, err
}

// tryAgain is how long a token that was rejected is not given, when there is no
// other: who rejected it may have erred.
const tryAgain = 10 * time.Minute

// triesAgain tells whether a rejected token is to be given all the same.
func (s *source) triesAgain(now time.Time) bool {
	f := s.file
	if f.givenAt.IsZero() { // by another process
		f.givenAt = now
	}
	return now.Sub(f.givenAt).Abs() >= tryAgain
}

// mint has the turn in this process.
func (s *source) mint(ctx context.Context, l Login) (refresher.Minted, error) {
	now := s.Clock()
	if refresher.LookOnly(ctx) {
		if l.expiredAt(now) {
			return refresher.Minted{}, errors.New("the stored token has expired, and this is only a look: the daemon refreshes it")
		}
		return l.minted(time.Time{}), nil
	}
	if s.file.unstored == nil && !s.due(ctx, l, now) {
		return l.minted(time.Time{}), nil
	}
	m, err := s.renew(ctx)
	if err == nil || l.expiredAt(now) {
		return m, err
	}
	// A token that lives on is better than none. The next mint fails, so that
	// the trouble shows.
	switch refused := refresher.Refused(ctx, l.Access); {
	case !refused && s.file.given != l.Access: // whoever asks has none yet
		s.Log.Warn("the login cannot be refreshed; its token is given as long as it lives", "error", err, "expires_at", l.ExpiresAt)
	case refused && s.triesAgain(now):
		s.Log.Warn("the login's token is tried again: it may have been rejected by mistake", "error", err, "expires_at", l.ExpiresAt)
	default:
		return m, err
	}
	return l.minted(time.Time{}), nil
}

// due tells whether the login is to be refreshed.
func (s *source) due(ctx context.Context, l Login, now time.Time) bool {
	if refresher.Refused(ctx, l.Access) {
		return true
	}
	at := l.RenewAt()
	if l.Refresh.IsZero() {
		at = l.ExpiresAt // until then there is nothing that could be done
	}
	return !at.IsZero() && !now.Before(at)
}

// renew refreshes the login unless another process has done it meanwhile.
func (s *source) renew(ctx context.Context) (refresher.Minted, error) {
	unlock, err := s.file.lockOthers(ctx)
	if err != nil {
		return refresher.Minted{}, err
	}
	defer unlock()
	l, err := s.read()
	if err != nil {
		return refresher.Minted{}, &refresher.Failure{Err: err, Permanent: true}
	}
	if f := s.file; f.unstored != nil {
		if f.replaces == l.Refresh {
			if err := s.store(*f.unstored, l); err != nil {
				return refresher.Minted{}, err
			}
			l = *f.unstored
		}
		f.unstored = nil // or somebody has logged in again
	}
	now := s.Clock()
	if !s.due(ctx, l, now) {
		return l.minted(time.Time{}), nil
	}
	rejected := refresher.Refused(ctx, l.Access)
	switch {
	case l.Refresh.IsZero() && rejected:
		return refresher.Minted{}, s.hopeless("the stored token was rejected, and there is no refresh token")
	case l.Refresh.IsZero():
		return refresher.Minted{}, s.hopeless("the stored token has expired, and there is no refresh token")
	case rejected && now.Sub(l.RefusedAt).Abs() < day:
		return refresher.Minted{}, s.hopeless("the stored token was rejected although it had been refreshed for that reason " + ago(now.Sub(l.RefusedAt)) + " ago")
	}
	// What cannot be stored must not be asked for: it would use up what is there.
	if err := checkWrite(s.options.TokenFile); err != nil {
		return refresher.Minted{}, fmt.Errorf(refreshing+": %w", err)
	}
	s.Logins.underWay.Add(1)
	defer s.Logins.underWay.Done() // once it is stored, and not before
	next, serverTime, err := s.refresh(ctx, l)
	if err != nil {
		return refresher.Minted{}, err
	}
	over := next.stillborn()
	switch next.RefusedAt = l.RefusedAt; {
	case over: // only the refresh token that came with it is of use
		next.Access, next.IssuedAt, next.ExpiresAt = l.Access, l.IssuedAt, l.ExpiresAt
	case rejected:
		next.RefusedAt = next.IssuedAt
	}
	if err := s.store(next, l); err != nil {
		return refresher.Minted{}, err
	}
	if over {
		return refresher.Minted{}, &refresher.Failure{Err: s.unfit(errStillborn), ServerTime: serverTime}
	}
	return next.minted(serverTime), nil
}

// hopeless is a failure that only a person can end.
func (s *source) hopeless(problem string) error {
	return &refresher.Failure{Err: errors.New(problem + ": " + s.again()), Permanent: true}
}

// exchangeGrace is how long an exchange may go on after nobody waits for it any
// more: its answer holds the only refresh token there is.
const exchangeGrace = 5 * time.Second

const refreshing = "refresh the login"

// unfit is the error of an exchange that gave a token which is not one.
func (s *source) unfit(err error) error {
	return fmt.Errorf("%s at %s: the token it gave %w", refreshing, s.URL, err)
}

// refresh uses up the refresh token. It changes nothing here.
func (s *source) refresh(ctx context.Context, l Login) (Login, time.Time, error) {
	if err := ctx.Err(); err != nil {
		return Login{}, time.Time{}, fmt.Errorf(refreshing+": %w", err)
	}
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(exchangeGrace, cancel) })()

	whole, n := s.talk(whole)
	// Without an access token this is one exchange, and it never asks twice.
	t, err := s.protocol.TokenSource(whole, &oauth2.Token{RefreshToken: l.Refresh.Reveal()}).Token()
	if err != nil {
		return Login{}, time.Time{}, s.failure(ctx, refreshing, n, err, map[string]string{codeInvalidGrant: s.again()})
	}
	next, err := s.granted(t, n)
	if err != nil {
		return Login{}, time.Time{}, s.unfit(err)
	}
	return next, n.serverTime, nil
}

// store makes next durable in place of l. What cannot be stored now is kept for
// the next mint, and not given to anybody before.
func (s *source) store(next, l Login) error {
	s.file.wrote.Store(&next) // before the write is noticed
	err := s.file.write(s.options.TokenFile, next)
	if err != nil {
		s.file.unstored, s.file.replaces = &next, l.Refresh
		return fmt.Errorf("cannot write the refreshed login to %s: only this process holds it, a restart now loses it: %w", s.options.TokenFile, err)
	}
	return nil
}

// ago says roughly how long something is past.
func ago(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	if d < 2*time.Hour {
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
