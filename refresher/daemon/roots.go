package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"iam-token-refresher/refresher/textfile"
)

// bundles are the places of the CA bundle on Linux distributions, the commonest
// first: the list of crypto/x509. Only the first that exists is read; the
// directories of single certificates beside them hold the same again and
// would cost another 8 ms and 4 MB.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// authorities reads those that the system trusts. Each pool is another one.
type authorities func() (*x509.CertPool, error)

// readAhead begins to read them. What it returns gives what was read, once.
func readAhead() authorities {
	var pool *x509.CertPool
	var err error
	var reading sync.WaitGroup
	reading.Go(func() { pool, err = systemRoots() })
	return func() (*x509.CertPool, error) {
		reading.Wait()
		return pool, err
	}
}

// roots are the authorities to trust: the system's, and extra as the content
// of a PEM file.
func roots(system authorities, extra []byte) (*x509.CertPool, error) {
	pool, err := system()
	if err != nil {
		return nil, err
	}
	if extra, err = textfile.Clean(extra); err != nil {
		return nil, fmt.Errorf("it %w", err)
	}
	if len(extra) > 0 && !pool.AppendCertsFromPEM(extra) {
		return nil, errors.New("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return pool, nil
}

func systemRoots() (*x509.CertPool, error) {
	if os.Getenv("SSL_CERT_FILE") == "" && os.Getenv("SSL_CERT_DIR") == "" {
		for _, path := range bundles {
			pem, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			if pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem) {
				return pool, nil
			}
		}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's CA certificates: %w", err)
	}
	return pool, nil
}

// web is how this process speaks HTTPS to the outside.
type web struct {
	tls       *tls.Config
	transport *http.Transport
}

func newWeb(system authorities, extra []byte) (*web, error) {
	pool, err := roots(system, extra)
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 32, 16
	// Between renewals nothing stays open: an idle connection is a wake-up.
	t.IdleConnTimeout = 20 * time.Second
	t.ExpectContinueTimeout = 0
	return &web{tls: t.TLSClientConfig, transport: t}, nil
}

// Outside is how commands without a daemon speak HTTPS: with the system's
// authorities and those in the file of that name, if there is one.
func Outside(caFile string) (*http.Transport, error) {
	var extra []byte
	if caFile != "" {
		var err error
		if extra, err = textfile.Read(caFile); err != nil {
			return nil, err
		}
	}
	w, err := newWeb(systemRoots, extra)
	if err != nil {
		return nil, err
	}
	return w.transport, nil
}

// Close lets idle connections go.
func (w *web) Close() error {
	w.transport.CloseIdleConnections()
	return nil
}
