package iam

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"iam-token-refresher/refresher"
)

// The addresses of the Russian region of Yandex Cloud.
const (
	// DefaultIAM is the gRPC endpoint of IAM: https://yandex.cloud/en/docs/api-design-guide/concepts/endpoints
	DefaultIAM = "iam.api.cloud.yandex.net:443"
	// DefaultTokenExchange takes a workload's OIDC token:
	// https://yandex.cloud/en/docs/iam/operations/wlif/setup-wlif
	DefaultTokenExchange = "https://auth.yandex.cloud/oauth/token"
	// DefaultMetadata is where a virtual machine finds its metadata service:
	// https://yandex.cloud/en/docs/compute/operations/vm-metadata/get-vm-metadata
	DefaultMetadata = "http://" + metadataIP
)

const metadataIP = "169.254.169.254"

// Endpoints are the addresses of the services. An empty field means the default.
//
// The environment variable YC_METADATA_ADDR, which other clients read, is not
// looked at: our own metadata listener speaks the same protocol, programs beside
// it have the variable set to its address, and a daemon that read it as well
// would take its tokens from itself.
type Endpoints struct {
	IAM           string `yaml:"iam" doc:"IAM's gRPC endpoint as host:port; always TLS (default iam.api.cloud.yandex.net:443)"`
	TokenExchange string `yaml:"token_exchange" doc:"URL that workload identity tokens are exchanged at (default https://auth.yandex.cloud/oauth/token)"`
	Metadata      string `yaml:"metadata" doc:"URL of the metadata service (default http://169.254.169.254; YC_METADATA_ADDR is not read)"`
}

// WithDefaults fills the empty fields.
func (e Endpoints) WithDefaults() Endpoints {
	if e.IAM == "" {
		e.IAM = DefaultIAM
	}
	if e.TokenExchange == "" {
		e.TokenExchange = DefaultTokenExchange
	}
	if e.Metadata == "" {
		e.Metadata = DefaultMetadata
	}
	return e
}

// Validate checks the fields that are set: secrets travel over TLS everywhere
// but on loopback and to the link-local metadata service.
func (e Endpoints) Validate() error {
	var errs []error
	if e.IAM != "" {
		if problem := badHostPort(e.IAM); problem != "" {
			errs = append(errs, &refresher.Invalid{Field: "iam", Problem: problem})
		}
	}
	if e.TokenExchange != "" {
		if problem := badURL(e.TokenExchange, isLoopback); problem != "" {
			errs = append(errs, &refresher.Invalid{Field: "token_exchange", Problem: problem})
		}
	}
	if e.Metadata != "" {
		metadataHost := func(host string) bool { return isLoopback(host) || host == metadataIP }
		if problem := badURL(e.Metadata, metadataHost); problem != "" {
			errs = append(errs, &refresher.Invalid{Field: "metadata", Problem: problem})
		}
	}
	return errors.Join(errs...)
}

func badHostPort(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.ContainsAny(host, "/@ ") {
		return fmt.Sprintf("%q is not host:port; for example %s", address, DefaultIAM)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("%q is not a port number (1 to 65535)", port)
	}
	return ""
}

// badURL says what is wrong with an address that plainAllowed hosts may have
// without TLS. The address is not repeated where it may hold a password.
func badURL(address string, plainAllowed func(host string) bool) string {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "not a URL"
	case u.User != nil:
		return "a URL with a user or password is not accepted"
	case u.Host == "" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Sprintf("%q is not a URL with a host and without ? or #", address)
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return fmt.Sprintf("%q is neither an https nor an http URL", address)
	case !plainAllowed(u.Hostname()):
		return fmt.Sprintf("%q would send secrets in the clear: plain http is for loopback addresses only; use https", address)
	}
	return ""
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
