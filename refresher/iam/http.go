package iam

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
	"time"

	"iam-token-refresher/refresher/httpanswer"
)

// reply is a complete answer to an HTTP request.
type reply struct {
	status     int
	body       []byte
	answered   time.Time // local time
	serverTime time.Time
	retryAfter time.Duration
}

// fetch makes one HTTP exchange. A trouble is returned when there is no answer
// that could be the service's.
func (c *Cloud) fetch(ctx context.Context, client *http.Client, req *http.Request, a attempt) (reply, *trouble) {
	a.began = time.Now()
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, transportTrouble(ctx, req, err, a)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return reply{}, transportTrouble(ctx, req, err, a)
	}
	now := c.now()
	r := reply{status: resp.StatusCode, body: body, answered: now, serverTime: httpanswer.Date(resp.Header), retryAfter: httpanswer.RetryAfter(resp.Header, now)}
	t := trouble{serverTime: r.serverTime, retryAfter: r.retryAfter}
	switch {
	case len(body) > maxAnswer:
		t.problem = fmt.Sprintf("the answer (%s) has more than %d bytes", httpanswer.StatusText(r.status), maxAnswer)
		t.remedy = "check the address under endpoints: this is not the service's answer"
	case r.status >= 300 && r.status < 400:
		t.problem = "the answer is a redirect (" + httpanswer.StatusText(r.status) + "), which is not followed with credentials"
		t.remedy = "check the address under endpoints and whether a proxy asks for a login"
	default:
		return r, nil
	}
	return reply{}, &t
}

// unexpected is the trouble of an answer whose status nobody planned for.
func (r reply) unexpected() trouble {
	t := trouble{
		problem:    "the answer is " + httpanswer.StatusText(r.status) + r.describeBody(),
		retryAfter: r.retryAfter,
		serverTime: r.serverTime,
	}
	if r.status == http.StatusTooManyRequests {
		t.problem = "too many requests (429)"
	}
	return t
}

// notToken is the trouble of a 200 whose body is no token. option names what
// the address is from in the configuration.
func (r reply) notToken(err error, option string) trouble {
	t := r.unexpected()
	if strings.HasPrefix(strings.TrimSpace(string(r.body)), "{") {
		t.problem = fmt.Sprintf("the answer (%d bytes) %s", len(r.body), jsonProblem(err))
	}
	t.remedy = "another program may answer at this address: check " + option
	return t
}

// describeBody tells the kind of a body that is not quoted.
func (r reply) describeBody() string {
	switch text := strings.TrimSpace(string(r.body)); {
	case text == "":
		return " without a body"
	case strings.HasPrefix(text, "<"):
		return fmt.Sprintf(" with %d bytes of HTML: a proxy's or another program's page", len(r.body))
	case strings.HasPrefix(text, "{"):
		return fmt.Sprintf(" with %d bytes of JSON", len(r.body))
	}
	return fmt.Sprintf(" with %d bytes that are not JSON", len(r.body))
}

// transportTrouble explains why there was no answer. Only texts of the network,
// DNS and TLS are repeated: those of net/http quote what the peer sent.
func transportTrouble(ctx context.Context, req *http.Request, err error, a attempt) *trouble {
	if t, ok := a.outOfTime(ctx, req.URL.Host); ok {
		return &t
	}
	var (
		operation   *net.OpError
		lookup      *net.DNSError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		record      tls.RecordHeaderError
	)
	var t trouble
	switch {
	case errors.As(err, &lookup):
		t.problem = "no answer: " + quote(lookup.Error(), a.secrets...)
		t.remedy = connectRemedy("lookup ")
	case errors.As(err, &certificate), errors.As(err, &authority):
		t.problem = "no answer: its certificate cannot be verified"
		if errors.As(err, &certificate) {
			t.problem += ": " + quote(certificate.Err.Error(), a.secrets...)
		}
		t.remedy = connectRemedy("x509:")
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		t.problem = "no answer: what is there does not speak TLS"
		t.remedy = "check the address under endpoints"
	// A peer's reset is an error of the read, or of a write before it, after which
	// the read says EOF: one trouble, whichever came first.
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		t.problem = "the connection was closed before the answer was complete"
	case errors.As(err, &operation):
		t.problem = "no answer: " + quote(operation.Error(), a.secrets...)
		t.remedy = connectRemedy(operation.Error())
	case httpanswer.IsTimeout(err):
		t.problem = "no answer in time"
		t.remedy = connectRemedy("timeout")
	default:
		t.problem = "no usable HTTP answer"
		t.remedy = "check the address under endpoints and HTTPS_PROXY"
	}
	return &t
}
