package status_test

import (
	"time"

	"iam-token-refresher/refresher"
)

const secret = "t1.9euelZqOpaqueOpaqueOpaqueOpaque.Signature"

var now = time.Date(2026, 3, 4, 12, 0, 0, 500e6, time.UTC)

// token is in good order; the changes make it what a test needs.
func token(name string, changes ...func(*refresher.Status)) refresher.Status {
	s := refresher.Status{
		Token:    name,
		Source:   "service_account_key of ajepg0mjt06siua65usm at iam.api.cloud.yandex.net:443",
		Probe:    "tracker cloud_org_id=bpfaidqca8vd0m5jl3fp at https://api.tracker.yandex.net",
		Required: true,
		Version: &refresher.Version{
			Token: name, Lineage: "3f9ac1", N: 12, Value: refresher.NewValue(secret), Type: refresher.TypeIAM,
			MintedAt: now.Add(-17 * time.Minute), PublishedAt: now.Add(-17 * time.Minute), ExpiresAt: now.Add(11*time.Hour + 43*time.Minute),
		},
		Health:      refresher.Fresh,
		Proof:       refresher.Finding{Verdict: refresher.Accepted, Reason: "Tracker at api.tracker.yandex.net: 200, the account is bot"},
		VerifiedAt:  now.Add(-2 * time.Minute),
		Code:        "schedule",
		Reason:      "the next refresh is due by its schedule",
		NextRefresh: now.Add(41*time.Minute + 12*time.Second),
		NextProbe:   now.Add(13 * time.Minute),
		Sinks: []refresher.SinkStatus{
			{ID: "file:/run/x/" + name + ".token", N: 12, Current: true},
			{ID: "socket:/run/x.sock", N: 12, Current: true},
		},
		Refreshes: refresher.RefreshCounts{12, 0, 0, 0, 3}, // published, failed
		Probes:    refresher.ProbeCounts{refresher.Accepted: 40, refresher.Unknown: 2},
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func optional(s *refresher.Status) { s.Required = false }

func pending(s *refresher.Status) {
	s.Version, s.Health, s.Proof, s.VerifiedAt = nil, refresher.Pending, refresher.Finding{}, time.Time{}
	s.Reason, s.NextRefresh, s.NextProbe = "there is no value yet", now, time.Time{}
	for i := range s.Sinks {
		s.Sinks[i].N, s.Sinks[i].Current = 0, false
	}
}

func failing(s *refresher.Status) {
	s.Failures, s.FailingSince = 7, now.Add(-12*time.Minute)
	s.LastFailure = "create IAM token at iam.api.cloud.yandex.net:443: connection refused: check the network and the proxy"
	s.NextRefresh = now.Add(50 * time.Second)
}

func health(h refresher.Health, v refresher.Verdict, reason string) func(*refresher.Status) {
	return func(s *refresher.Status) {
		s.Health, s.Proof = h, refresher.Finding{Verdict: v, Reason: reason}
	}
}

var (
	revoked    = health(refresher.Revoked, refresher.RejectedToken, "Tracker: 401: the token is expired or revoked")
	noAccess   = health(refresher.NoAccess, refresher.RejectedAccess, "Tracker: 403: no access to organization bpfaidqca8vd0m5jl3fp")
	unchecked  = health(refresher.Unchecked, refresher.Accepted, "Tracker: 200")
	unverified = health(refresher.Unverified, refresher.Unknown, "Tracker: no answer within 10s")
)

func expired(s *refresher.Status) { s.Version.ExpiresAt = now.Add(-5 * time.Minute) }

func doubtful(s *refresher.Status) { s.DoubtSince = now.Add(-20 * time.Minute) }

func sinkFails(s *refresher.Status) {
	s.Sinks[0].N, s.Sinks[0].Current, s.Sinks[0].Failure = 11, false, "write: permission denied: the directory must be writable for us"
}

func contested(s *refresher.Status) { s.Sinks[0].Current, s.Sinks[0].Contested = false, true }

func storeFails(s *refresher.Status) { s.StoreFailure = "no space left on device" }

func endless(s *refresher.Status) { s.Version.ExpiresAt = time.Time{} }

func unprobed(s *refresher.Status) {
	s.Probe, s.Proof, s.NextProbe = "", refresher.Finding{}, time.Time{}
}
