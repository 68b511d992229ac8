package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"iam-token-refresher/refresher/httpanswer"
	"iam-token-refresher/refresher/scrub"
)

// networkTrouble says in words why there is no answer. The address is left to
// the caller: url.Error and others quote it with its query.
func networkTrouble(ctx context.Context, err error, began time.Time, secrets []string) string {
	var uerr *url.Error
	for errors.As(err, &uerr) {
		err = uerr.Err
	}
	what := words(err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		what = "given up: we are stopping or the question is no longer needed"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), httpanswer.IsTimeout(err):
		what = "no answer " + httpanswer.Within(ctx, began)
	case what == "":
		what = scrub.Message(err.Error(), secrets...)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		return "the proxy: " + what
	}
	return what
}

// words knows the troubles that a person can do something about.
func words(err error) string {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		roots     x509.SystemRootsError
		hostname  x509.HostnameError
		cert      x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there, or a firewall refuses"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before an answer came"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "the network is unreachable"
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("no such host %q: check the address and DNS", dns.Name)
	case errors.As(err, &dns) && !dns.IsTimeout:
		return fmt.Sprintf("DNS cannot resolve %q at the moment", dns.Name)
	case errors.As(err, &authority), errors.As(err, &roots):
		return "certificate signed by unknown authority: set ca_file if the authority is yours"
	case errors.As(err, &hostname):
		return "the certificate is for another name: check the address"
	case errors.As(err, &cert) && cert.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet: check this machine's clock"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS there: check the address and port"
	}
	return ""
}
