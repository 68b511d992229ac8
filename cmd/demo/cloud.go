package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"
)

const callTimeout = 5 * time.Second

// cloud is the stand-in cloud as its users see it, and how to break it.
type cloud struct {
	at      endpoints
	org     string
	tracker *http.Client
	admin   *http.Client
}

// newCloud asks the emulator for what is not in endpoints.json.
func newCloud(ctx context.Context, at endpoints, caFile string) (*cloud, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the stand-in cloud's CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("read the stand-in cloud's CA: there is no certificate in it")
	}
	c := &cloud{
		at:      at,
		tracker: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 4}, Timeout: callTimeout},
		admin:   &http.Client{Transport: &http.Transport{}, Timeout: callTimeout},
	}
	var about struct {
		Org string `json:"cloud_org_id"`
	}
	if err := c.order(ctx, http.MethodGet, "/", nil, &about); err != nil {
		return nil, err
	}
	c.org = about.Org
	return c, nil
}

// order tells the emulator to do something and decodes its answer into out,
// unless that is nil.
func (c *cloud) order(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if in == nil {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, c.at.Admin+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the stand-in cloud: %w", err)
	}
	resp, err := c.admin.Do(req)
	if err != nil {
		return fmt.Errorf("ask the stand-in cloud: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("ask the stand-in cloud: %s %s: %w", method, path, err)
	case resp.StatusCode >= 300:
		return fmt.Errorf("the stand-in cloud refuses %s %s: %s", method, path, resp.Status)
	case out != nil:
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("the stand-in cloud's answer to %s %s is not what was asked for", method, path)
		}
	}
	return nil
}

// How IAM goes down: the number of calls that it refuses bounds the outage
// should we be too slow to end it.
const (
	outageCalls      = 2
	outageRetryAfter = 2 * time.Second
)

// breakIAM makes IAM refuse every call until mendIAM.
func (c *cloud) breakIAM(ctx context.Context) error {
	return c.order(ctx, http.MethodPost, "/faults", map[string]any{
		"service": "iam", "kind": "error", "code": "UNAVAILABLE", "message": "IAM is down",
		"retry_after": outageRetryAfter.String(), "count": outageCalls,
	}, nil)
}

func (c *cloud) mendIAM(ctx context.Context) error {
	return c.order(ctx, http.MethodDelete, "/faults", nil, nil)
}

// revoke revokes a value; it is dead when this returns.
func (c *cloud) revoke(ctx context.Context, value string) error {
	return c.order(ctx, http.MethodPost, "/revoke", map[string]string{"token": value}, nil)
}

// issued tells whether the cloud ever handed out this very value.
func (c *cloud) issued(ctx context.Context, value string) (bool, error) {
	var all []string
	err := c.order(ctx, http.MethodGet, "/tokens", nil, &all)
	return slices.Contains(all, value), err
}

// calls counts calls by "service/method".
func (c *cloud) calls(ctx context.Context) (map[string]int, error) {
	var n map[string]int
	err := c.order(ctx, http.MethodGet, "/calls", nil, &n)
	return n, err
}

// answer is what Tracker makes of a value.
type answer uint8

const (
	noAnswer answer = iota // it cannot be told
	accepted
	rejected // 401
)

// try asks Tracker who the value belongs to.
func (c *cloud) try(ctx context.Context, value string) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.at.Tracker+"/v3/myself", nil)
	if err != nil {
		return noAnswer
	}
	req.Header.Set("Authorization", "Bearer "+value)
	req.Header.Set("X-Cloud-Org-ID", c.org)
	resp, err := c.tracker.Do(req)
	if err != nil {
		return noAnswer
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	switch resp.StatusCode {
	case http.StatusOK:
		return accepted
	case http.StatusUnauthorized:
		return rejected
	}
	return noAnswer
}
