package iam

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"iam-token-refresher/refresher"
)

// WorkloadIdentityOptions is the source workload_identity: the OIDC token that
// Kubernetes or a CI system wrote for us is exchanged for a service account's.
// https://yandex.cloud/en/docs/iam/operations/wlif/setup-wlif
type WorkloadIdentityOptions struct {
	ServiceAccountID string `yaml:"service_account_id" doc:"id of the service account that the workload is federated with" check:"required"`
	TokenFile        string `yaml:"token_file" doc:"file with the workload's own OIDC token (JWT); read anew for every mint" check:"required,path"`
}

// Validate implements the check of the options.
func (o WorkloadIdentityOptions) Validate() error {
	var errs []error
	if o.ServiceAccountID == "" {
		errs = append(errs, missing("service_account_id", "ajehtv5rp9m7cqs4mvj2"))
	}
	if o.TokenFile == "" {
		errs = append(errs, missing("token_file", "/var/run/secrets/yandex.cloud/token"))
	}
	return errors.Join(errs...)
}

// Rebuild lists the files that New reads: none, the token is read at each mint.
func (o WorkloadIdentityOptions) Rebuild() []string { return nil }

// Inputs lists the files whose change should start a refresh: none, the workload's
// token is renewed more often than ours.
func (o WorkloadIdentityOptions) Inputs() []string { return nil }

// New makes the source; the token file is not read before the first mint.
func (o WorkloadIdentityOptions) New(c *Cloud) (refresher.Source, error) {
	return &workloadSource{cloud: c, options: o}, nil
}

type workloadSource struct {
	cloud   *Cloud
	options WorkloadIdentityOptions
}

func (s *workloadSource) Identity() string {
	return "workload_identity of " + s.options.ServiceAccountID + " at " + s.cloud.endpoints.TokenExchange
}

func (s *workloadSource) Mint(ctx context.Context) (refresher.Minted, error) {
	account, file := s.options.ServiceAccountID, s.options.TokenFile
	a := attempt{what: fmt.Sprintf("exchange workload token %s at %s for service account %s", file, s.cloud.endpoints.TokenExchange, account)}

	content, _, err := readFile("workload token", file)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: err.Error()})
	}
	subject, err := clean(strings.TrimSpace(string(content)))
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: "the workload token " + err.Error(), remedy: "check who writes " + file})
	}
	a.secrets = []string{subject}

	form := url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience":             {account},
		"subject_token":        {subject},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:id_token"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cloud.endpoints.TokenExchange, strings.NewReader(form.Encode()))
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: "the address is not a URL", permanent: true})
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r, t := s.cloud.fetch(ctx, s.cloud.http, req, a)
	if t != nil {
		return refresher.Minted{}, a.failed(*t)
	}
	if r.status != http.StatusOK {
		return refresher.Minted{}, a.failed(s.refusal(a, r, subject))
	}
	var token accessToken
	if err := json.Unmarshal(r.body, &token); err != nil {
		return refresher.Minted{}, a.failed(r.notToken(err, "endpoints.token_exchange and HTTPS_PROXY"))
	}
	return s.cloud.mintedFor(a, r, token)
}

// refusal explains an answer other than 200. https://www.rfc-editor.org/rfc/rfc6749#section-5.2
func (s *workloadSource) refusal(a attempt, r reply, subject string) trouble {
	var said struct {
		Error            string `json:"error"`
		ErrorDescription string `json:"error_description"`
	}
	t := r.unexpected()
	if json.Unmarshal(r.body, &said) != nil || said.Error == "" {
		return t
	}
	t.problem = fmt.Sprintf("%d: %s", r.status, quote(said.Error, a.secrets...))
	if description := quote(said.ErrorDescription, a.secrets...); description != "" {
		t.problem += ": " + description
	}
	if r.status >= 500 || r.status == http.StatusTooManyRequests {
		return t
	}
	t.permanent = true
	t.remedy = fmt.Sprintf("check the federation and its federated credentials for %s (yc iam workload-identity federated-credential list --service-account-id %[1]s): issuer, audience and subject must be those of the token", s.options.ServiceAccountID)
	now := s.cloud.now()
	if wrong := s.cloud.skewText(r.serverTime); wrong != "" {
		t.remedy, now = wrong+"; "+t.remedy, r.serverTime
	}
	if end := jwtExpiry(subject); !end.IsZero() && !now.Before(end) {
		t.remedy = fmt.Sprintf("the workload token expired %s ago: whoever writes %s (the kubelet, the CI system) has stopped renewing it", span(now.Sub(end)), s.options.TokenFile)
		t.permanent = false // the next mint reads the file again
	}
	return t
}

// jwtExpiry reads the end of a JWT, without any verification, for a hint in an
// error; zero when there is none.
func jwtExpiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expiry float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expiry <= 0 || claims.Expiry > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expiry), 0)
}
