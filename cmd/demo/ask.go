package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const tokenName = "bot"

// asker asks the daemon, as its users do: through the socket, the metadata
// listener and the status listener.
type asker struct {
	socket   *http.Client
	tcp      *http.Client
	metadata string // URL
	metrics  string // URL
}

func newAsker(p *place) *asker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", p.path("itr.sock"))
	}
	return &asker{
		socket:   &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 4}},
		tcp:      &http.Client{Transport: &http.Transport{}},
		metadata: "http://" + p.metadata + "/computeMetadata/v1/instance/service-accounts/default/token",
		metrics:  "http://" + p.status + "/metrics",
	}
}

// reply is an answer of the daemon.
type reply struct {
	code int
	body []byte
	etag string
}

func ask(ctx context.Context, c *http.Client, method, url string, header ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return reply{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, body, resp.Header.Get("Etag")}, err
}

const tokenURL = "http://daemon/v1/tokens/" + tokenName

// token reads the value.
func (a *asker) token(ctx context.Context) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return ask(ctx, a.socket, http.MethodGet, tokenURL)
}

// longWait is how long a reader waits for news at once.
const longWait = 20 * time.Second

// news waits until the value is another than that with etag.
func (a *asker) news(ctx context.Context, etag string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, longWait+callTimeout)
	defer cancel()
	header := []string{"Prefer", fmt.Sprintf("wait=%d", longWait/time.Second)}
	if etag != "" {
		header = append(header, "If-None-Match", etag)
	}
	return ask(ctx, a.socket, http.MethodGet, tokenURL, header...)
}

// report says that the value with etag was rejected.
func (a *asker) report(ctx context.Context, etag string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := ask(ctx, a.socket, http.MethodPost, tokenURL+"/report", "If-Match", etag)
	if err == nil && r.code >= 300 {
		err = fmt.Errorf("the socket answers %d", r.code)
	}
	return err
}

// fromMetadata reads the value as the cloud's SDKs do.
func (a *asker) fromMetadata(ctx context.Context) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := ask(ctx, a.tcp, http.MethodGet, a.metadata, "Metadata-Flavor", "Google")
	if err != nil || r.code != http.StatusOK {
		return r, err
	}
	var doc struct {
		Value string `json:"access_token"`
	}
	if json.Unmarshal(r.body, &doc) != nil {
		return r, errors.New("the metadata listener's answer is not JSON")
	}
	r.body = []byte(doc.Value)
	return r, nil
}

// tokenStatus is what the daemon says of a token.
type tokenStatus struct {
	State       string     `json:"state"`
	Verdict     string     `json:"verdict"`
	Version     uint64     `json:"version"`
	ExpiresAt   *time.Time `json:"expires_at"`
	VerifiedAt  *time.Time `json:"verified_at"`
	NextRefresh *time.Time `json:"next_refresh"`
	NextProbe   *time.Time `json:"next_probe"`
	Code        string     `json:"code"`
	Reason      string     `json:"reason"`
	Failures    int        `json:"failures"`
	Sinks       []struct {
		Current bool `json:"current"`
	} `json:"sinks"`
}

// everywhere tells whether all sinks hold the published version.
func (s tokenStatus) everywhere() bool {
	for _, sink := range s.Sinks {
		if !sink.Current {
			return false
		}
	}
	return s.Version > 0 && len(s.Sinks) > 0
}

func (a *asker) status(ctx context.Context) (tokenStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var doc struct {
		Tokens []tokenStatus `json:"tokens"`
	}
	r, err := ask(ctx, a.socket, http.MethodGet, "http://daemon/v1/tokens")
	if err != nil {
		return tokenStatus{}, err
	}
	if r.code != http.StatusOK || json.Unmarshal(r.body, &doc) != nil || len(doc.Tokens) != 1 {
		return tokenStatus{}, fmt.Errorf("the socket answers %d to the question how the token is", r.code)
	}
	return doc.Tokens[0], nil
}

// probes counts the daemon's probes by their verdict.
func (a *asker) probes(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := ask(ctx, a.tcp, http.MethodGet, a.metrics)
	if err != nil {
		return nil, fmt.Errorf("read the daemon's metrics: %w", err)
	}
	return countsOf(string(r.body), "iam_token_probes_total", "verdict"), nil
}

// countsOf reads the samples of one metric by one of its labels.
func countsOf(text, metric, label string) map[string]int {
	counts := map[string]int{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), metric+"{")
		labels, number, found := strings.Cut(rest, "} ")
		if !ok || !found {
			continue
		}
		_, value, _ := strings.Cut(labels, label+`="`)
		value, _, _ = strings.Cut(value, `"`)
		if n, err := strconv.ParseFloat(strings.TrimSpace(number), 64); err == nil {
			counts[value] += int(n)
		}
	}
	return counts
}

// versionOf is the number in an ETag "<lineage>-<version>"; 0 if there is none.
func versionOf(etag string) uint64 {
	etag = strings.Trim(etag, `"`)
	n, _ := strconv.ParseUint(etag[strings.LastIndexByte(etag, '-')+1:], 10, 64)
	return n
}
