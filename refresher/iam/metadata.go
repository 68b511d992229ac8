package iam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"iam-token-refresher/refresher"
)

// MetadataOptions is the source metadata: the token of the service account that
// is attached to this virtual machine.
//
// The endpoint is read here and not by the SDK: the SDK caps the expiry it
// reports to a minute and polls for ever.
// https://yandex.cloud/en/docs/compute/operations/vm-connect/auth-inside-vm
type MetadataOptions struct{}

// Validate implements the check of the options.
func (MetadataOptions) Validate() error { return nil }

// Rebuild lists the files that New reads.
func (MetadataOptions) Rebuild() []string { return nil }

// Inputs lists the files whose change should start a refresh.
func (MetadataOptions) Inputs() []string { return nil }

// New makes the source; nothing is asked before the first mint.
func (MetadataOptions) New(c *Cloud) (refresher.Source, error) {
	return &metadataSource{cloud: c}, nil
}

const metadataTokenPath = "/computeMetadata/v1/instance/service-accounts/default/token"

type metadataSource struct{ cloud *Cloud }

func (s *metadataSource) Identity() string { return "metadata at " + s.cloud.endpoints.Metadata }

func (s *metadataSource) Mint(ctx context.Context) (refresher.Minted, error) {
	address := s.cloud.endpoints.Metadata
	a := attempt{what: "get token from the metadata service at " + address}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+metadataTokenPath, nil)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: "the address is not a URL", permanent: true})
	}
	req.Header.Set("Metadata-Flavor", "Google")
	r, t := s.cloud.fetch(ctx, s.cloud.metadata, req, a)
	if t != nil {
		return refresher.Minted{}, a.failed(metadataTrouble(*t))
	}
	if r.status != http.StatusOK {
		return refresher.Minted{}, a.failed(metadataRefusal(r))
	}
	var token accessToken
	if err := json.Unmarshal(r.body, &token); err != nil {
		return refresher.Minted{}, a.failed(r.notToken(err, "endpoints.metadata"))
	}
	return s.cloud.mintedFor(a, r, token)
}

// metadataLasts is the remedy for what may pass by itself.
const metadataLasts = "it is asked again; if this lasts, another program may answer at this address: check endpoints.metadata"

// metadataTrouble is t with what to do about it. No proxy is used for this
// service, and no network but that of the virtual machine's host.
func metadataTrouble(t trouble) trouble {
	switch {
	case errors.Is(t.cause, context.Canceled):
	case strings.HasPrefix(t.problem, "no answer: lookup "), strings.Contains(t.problem, "TLS"), strings.Contains(t.problem, "certificate"):
		// What is wrong is the address that somebody gave.
	case strings.HasPrefix(t.problem, "no answer"):
		t.remedy = "is this a virtual machine of Yandex Cloud, with its metadata service on (--metadata-options gce-http-endpoint=enabled)?"
	case t.remedy == "":
		t.remedy = metadataLasts
	default: // it may speak of proxies
		t.remedy = "check endpoints.metadata: this is not the service's answer"
	}
	return t
}

func metadataRefusal(r reply) trouble {
	t := r.unexpected()
	t.remedy = metadataLasts
	switch r.status {
	case http.StatusNotFound:
		t.problem = "404: no service account is attached to this virtual machine"
		t.remedy = "attach one with yc compute instance update --service-account-id, or use another source"
		t.permanent = true
	case http.StatusForbidden:
		t.problem = "403: it refuses to give a token"
		t.remedy = "allow it with --metadata-options gce-http-token=enabled; if a proxy or agent stands in front of the service, let our request pass"
		t.permanent = true
	}
	return t
}

// accessToken is the answer of the metadata service and of the token exchange.
type accessToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   *int64 `json:"expires_in"`
}

// mintedFor checks an answer that has a lifetime instead of an expiry.
func (c *Cloud) mintedFor(a attempt, r reply, token accessToken) (refresher.Minted, error) {
	switch {
	case token.AccessToken == "":
		return refresher.Minted{}, a.failed(trouble{problem: `the answer has no "access_token"`, serverTime: r.serverTime})
	case token.ExpiresIn == nil:
		return refresher.Minted{}, a.failed(trouble{problem: `the answer has no "expires_in": when the token expires is not known`, serverTime: r.serverTime})
	case *token.ExpiresIn <= 0:
		return refresher.Minted{}, a.failed(trouble{
			problem:    fmt.Sprintf("the token it gave has expired (expires_in is %d)", *token.ExpiresIn),
			remedy:     "it is asked again; if this lasts, another program may answer at this address: check it under endpoints",
			serverTime: r.serverTime,
		})
	case *token.ExpiresIn > maxLifetime:
		return refresher.Minted{}, a.failed(trouble{
			problem:    fmt.Sprintf("the answer says that the token lives for %d seconds, which cannot be", *token.ExpiresIn),
			serverTime: r.serverTime,
		})
	}
	return c.minted(a, token.AccessToken, c.expiry(r.answered, r.serverTime, *token.ExpiresIn), r.serverTime)
}

// maxLifetime is ten years, in seconds: what is beyond is a mistake, and would
// overflow before long.
const maxLifetime = 10 * 365 * 24 * 3600
