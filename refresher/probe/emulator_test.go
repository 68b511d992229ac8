package probe_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
	"iam-token-refresher/refresher/probe"
)

// TestEmulatedTracker drives one emulator through what Tracker and what stands
// before it may answer, one after the other: faults are the whole emulator's.
func TestEmulatedTracker(t *testing.T) {
	t.Parallel()
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), TokenFormat: emulator.FormatNew})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	transport := &http.Transport{TLSClientConfig: e.TLS()}
	t.Cleanup(transport.CloseIdleConnections)
	config := probe.Config{Client: &http.Client{Transport: transport}, TrackerURL: e.Endpoints().Tracker, UserAgent: "test/1"}
	mint := func(account string) string {
		value, _, err := e.Mint(account, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	cloud := probe.TrackerOptions{CloudOrgID: emulator.CloudOrgID}
	fault := func(f emulator.Fault) func(string) {
		return func(string) {
			f.Service = emulator.ServiceTracker
			if err := e.Inject(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		options probe.TrackerOptions
		account string
		before  func(value string)
		want    refresher.Verdict
		after   time.Duration
		reason  string
	}{
		{name: "an account with access", want: refresher.Accepted, reason: "200, the account is"},
		{name: "an account without access", account: emulator.OutsiderAccount, want: refresher.RejectedAccess, reason: "403: you have no access to this organization: the account has no access to organization " + emulator.CloudOrgID},
		{name: "another organization", options: probe.TrackerOptions{CloudOrgID: "bpfanother"}, want: refresher.RejectedAccess, reason: "no access to organization bpfanother"},
		{name: "the organization header of the wrong kind", options: probe.TrackerOptions{OrgID: emulator.OrgID}, want: refresher.RejectedAccess, reason: "of the wrong kind (then use cloud_org_id in place of org_id)"},
		{name: "a revoked token", before: func(value string) { e.Revoke(value) }, want: refresher.RejectedToken, reason: "401: "},
		{name: "a 401 without reason", before: fault(emulator.Fault{Kind: emulator.KindExpired}), want: refresher.RejectedToken, reason: "401: the token is expired"},
		{name: "429 with Retry-After", before: fault(emulator.Fault{Kind: emulator.KindError, Status: 429, RetryAfter: 7 * time.Second}), want: refresher.Unknown, after: 7 * time.Second, reason: "429: too many requests"},
		{name: "500", before: fault(emulator.Fault{Kind: emulator.KindError, Status: 500}), want: refresher.Unknown, reason: "500: internal error"},
		{name: "a proxy's 403", before: fault(emulator.Fault{Kind: emulator.KindStatus, Status: 403}), want: refresher.Unknown, reason: "403, but not Tracker's own"},
		{name: "a proxy's 401", before: fault(emulator.Fault{Kind: emulator.KindStatus, Status: 401}), want: refresher.Unknown, reason: "401, but not Tracker's own"},
		{name: "a proxy's 503 with Retry-After", before: fault(emulator.Fault{Kind: emulator.KindStatus, Status: 503, RetryAfter: time.Minute}), want: refresher.Unknown, after: time.Minute, reason: "503"},
		{name: "a captive portal", before: fault(emulator.Fault{Kind: emulator.KindHTML}), want: refresher.Unknown, reason: "text/html"},
		{name: "a redirect", before: fault(emulator.Fault{Kind: emulator.KindRedirect}), want: refresher.Unknown, reason: "302, a redirect"},
		{name: "a hang", before: fault(emulator.Fault{Kind: emulator.KindHang}), want: refresher.Unknown, reason: "no answer within "},
		{name: "a reset", before: fault(emulator.Fault{Kind: emulator.KindReset}), want: refresher.Unknown, reason: "closed before an answer"},
		{name: "garbage", before: fault(emulator.Fault{Kind: emulator.KindGarbage}), want: refresher.Unknown, reason: "200, but not with Tracker's answer"},
		{name: "an empty answer", before: fault(emulator.Fault{Kind: emulator.KindEmpty}), want: refresher.Unknown, reason: "an empty body"},
		{name: "all well again", want: refresher.Accepted, reason: "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.account == "" {
				c.account = emulator.BotAccount
			}
			if c.options == (probe.TrackerOptions{}) {
				c.options = cloud
			}
			value := mint(c.account)
			p, err := c.options.New(config)
			if err != nil {
				t.Fatal(err)
			}
			if c.before != nil {
				c.before(value)
				defer e.ClearFaults()
			}
			limit := 20 * time.Second
			if c.name == "a hang" {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			got := p.Probe(ctx, refresher.NewValue(value))
			if got.Verdict != c.want || got.RetryAfter != c.after || got.Throttled != strings.HasPrefix(c.name, "429") {
				t.Errorf("got %+v, want %v, retry after %v", got, c.want, c.after)
			}
			checkReason(t, got, value, c.reason)
		})
	}
	if n := e.Calls()["tracker/redirected"]; n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}
