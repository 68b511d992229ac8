package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"golang.org/x/oauth2"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/httpanswer"
)

// Refusal is what the service says no with: a code such as invalid_grant.
type Refusal struct{ Code string }

func (r *Refusal) Error() string { return r.Code }

// The codes that are told apart: https://yandex.com/dev/id/doc/en/codes/code-url
// and RFC 6749, 5.2; RFC 8628, 3.5.
const (
	codeInvalidGrant  = "invalid_grant"
	codeBadCode       = "bad_verification_code"
	codeInvalidClient = "invalid_client"
	codeUnauthorized  = "unauthorized_client"
	codeDenied        = "access_denied"
	codeExpired       = "expired_token"
	codeInvalidScope  = "invalid_scope"
	codeSlowDown      = "slow_down"
	codePending       = "authorization_pending"
)

// failure is the error of one exchange. remedies say what to do about codes of
// the service; the library's own text quotes bodies and is dropped.
func (a *application) failure(ctx context.Context, what string, n *note, err error, remedies map[string]string) *refresher.Failure {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := &refresher.Failure{RetryAfter: n.retryAfter, ServerTime: n.serverTime}
	say := func(cause error, problem, remedy string) *refresher.Failure {
		text := what + " at " + a.URL + ": " + problem
		if remedy != "" {
			text += ": " + remedy
		}
		f.Err = &failed{text, cause}
		return f
	}
	var answer *oauth2.RetrieveError
	switch {
	case errors.As(err, &answer) && isCode(answer.ErrorCode):
		code := answer.ErrorCode
		refusal := &Refusal{code}
		remedy, known := remedies[code]
		f.Permanent = known
		switch {
		case known:
		case code == codeInvalidClient, code == codeUnauthorized:
			f.Permanent = true
			remedy = "the service does not know this client_id, or the client secret is not its own: compare both with the application's page at https://oauth.yandex.com"
		case code == codeInvalidScope:
			f.Permanent = true
			remedy = "the application has not got these permissions: add them on its page at https://oauth.yandex.com, or ask for others with --scope"
		case n.status < 500 && n.status != http.StatusTooManyRequests:
			f.Permanent = true
			remedy = "compare the application's settings at https://oauth.yandex.com with the configuration"
		}
		return say(refusal, "refused: "+code, remedy)
	case n.answered && n.status == http.StatusTooManyRequests:
		return say(nil, "too many requests (429)", "")
	case n.answered && n.status >= 500:
		return say(nil, "the answer is "+httpanswer.StatusText(n.status), "")
	case n.answered && n.status >= 300 && n.status < 400:
		return say(nil, "the answer is a redirect ("+httpanswer.StatusText(n.status)+"), which is not followed with credentials", "check endpoints.oauth and whether a proxy asks for a login")
	case n.answered && ctx.Err() == nil && !httpanswer.IsTimeout(err) && !isBroken(err):
		return say(nil, "the answer ("+httpanswer.StatusText(n.status)+") is not the service's", "another program may answer at this address: check endpoints.oauth and HTTPS_PROXY")
	}
	problem, remedy := transportTrouble(ctx, err)
	return say(ctx.Err(), problem, remedy)
}

// failed is the text of a failure; of causes only those that hold nothing of
// anybody else's are kept.
type failed struct {
	text  string
	cause error
}

func (f *failed) Error() string { return f.text }
func (f *failed) Unwrap() error { return f.cause }

// isCode tells whether a word of the answer is fit to be shown.
func isCode(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// isBroken tells whether the connection ended in the middle of an answer. The
// library drops the error that says so and keeps its text.
func isBroken(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "unexpected EOF") || strings.Contains(err.Error(), "connection reset")
}

// transportTrouble explains why there is no answer. Only what the system, DNS
// and TLS say is told apart; nothing is repeated.
func transportTrouble(ctx context.Context, err error) (problem, remedy string) {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		record      tls.RecordHeaderError
	)
	const check = "check the network, the firewall, HTTPS_PROXY and endpoints.oauth"
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return "given up before it answered", ""
	case ctx.Err() != nil, httpanswer.IsTimeout(err):
		return "no answer in time", check
	case errors.As(err, &dns):
		return fmt.Sprintf("DNS does not resolve %q", dns.Name), "check endpoints.oauth and this machine's DNS"
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "its certificate cannot be verified", "if a proxy inspects TLS, give its CA with ca_file; otherwise check the address and this machine's clock"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "what is there does not speak TLS", "check endpoints.oauth"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", check
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "the network is unreachable", check
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), isBroken(err):
		return "the connection was closed before the answer was complete", ""
	}
	return "no usable answer", check
}
