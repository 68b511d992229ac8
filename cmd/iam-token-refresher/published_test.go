package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// often has the published value tried every second.
const often = `, schedule: "@every 1s"`

// inject makes the cloud do wrong.
func (s *scene) inject(faults ...emulator.Fault) {
	s.Helper()
	for _, f := range faults {
		s.try(s.cloud.Inject(f))
	}
}

func tracker(kind string) emulator.Fault {
	return emulator.Fault{Service: emulator.ServiceTracker, Kind: kind}
}

func trackerStatus(kind string, status int) emulator.Fault {
	return emulator.Fault{Service: emulator.ServiceTracker, Kind: kind, Status: status}
}

// iamDown has no more values minted.
var iamDown = emulator.Fault{Service: emulator.ServiceIAM, Kind: emulator.KindError, Code: "UNAVAILABLE"}

// report says that the served version was refused.
func (s *scene) report() {
	s.Helper()
	v := s.read()
	code, body := s.ask(s.socket, http.MethodPost, "http://localhost/v1/tokens/bot/report", "If-Match", fmt.Sprintf(`"%s-%d"`, v.Lineage, v.Version))
	if code != http.StatusAccepted {
		s.Fatalf("the report is answered with %d: %s", code, body)
	}
}

// unknowns are the answers of Tracker that say nothing about a value, with
// what is said of them.
var unknowns = map[string]struct {
	fault emulator.Fault
	says  string
}{
	"429":                      {trackerStatus(emulator.KindError, 429), "429: .*too many requests.*: asked too often"},
	"500":                      {trackerStatus(emulator.KindError, 500), "500: .*trouble on Tracker's side or in a proxy before it"},
	"400":                      {trackerStatus(emulator.KindError, 400), "400: .*check (cloud_)?org_id"},
	"a proxy's 401":            {trackerStatus(emulator.KindStatus, 401), "401, but not Tracker's own .*a proxy or firewall answers in its place"},
	"a proxy's 403":            {trackerStatus(emulator.KindStatus, 403), "403, but not Tracker's own .*a proxy or firewall answers in its place"},
	"a proxy's 503":            {trackerStatus(emulator.KindStatus, 503), "503: trouble on Tracker's side or in a proxy before it"},
	"no answer":                {tracker(emulator.KindHang), `no answer within (1s|9\d0ms)`},
	"a reset connection":       {tracker(emulator.KindReset), "the connection was closed before an answer came"},
	"a redirect":               {tracker(emulator.KindRedirect), "302, a redirect to 127.*not followed with a token"},
	"HTML in place of JSON":    {tracker(emulator.KindHTML), "200, but not with Tracker's answer .text/html, .*does a proxy or a login page answer in its place"},
	"rubbish in place of JSON": {tracker(emulator.KindGarbage), "200, but not with Tracker's answer"},
	"an empty answer":          {tracker(emulator.KindEmpty), "200, but not with Tracker's answer .an empty body"},
}

func TestAnswerThatSaysNothingIsNoVerdict(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*scene){}
	for name, c := range unknowns {
		cases[name] = func(s *scene) {
			// Without a better one the value is published after the grace.
			s.inject(c.fault)
			s.run(plot{probe: org + ", timeout: 1s, grace: 200ms" + often})
			s.logged(`"level":"WARN","msg":"new value held back: the probe cannot tell","token":"bot","verdict":"unknown","reason":"Tracker at .*` + c.says)
			s.logged(`"level":"WARN","msg":"published without an accepted probe: no probe could tell: Tracker at .*` + c.says)
			s.ready()
			st := s.sees(refresher.Unverified, refresher.Unknown)
			s.matches("the status says", st.VerdictReason, c.says)
			s.do(0, "", "healthcheck", "--config", "bot.yaml")
			s.measures(`iam_token_refreshes_total{result="held",token="bot"} 1`)

			// It is proven as soon as that can be.
			s.keeps(func() {
				s.cloud.ClearFaults()
				s.report()
				s.logged(`"level":"INFO","msg":"accepted again","token":"bot"`)
			})
			s.sees(refresher.Fresh, refresher.Accepted)

			// A doubt about a proven value changes nothing.
			s.keeps(func() {
				s.inject(c.fault)
				s.logged(`"level":"WARN","msg":"the probe cannot tell whether the published value works; it stays served","token":"bot","verdict":"unknown","reason":"Tracker at .*` + c.says)
				if st := s.sees(refresher.Fresh, refresher.Accepted); st.DoubtSince == nil {
					s.Error("the status does not tell of the doubt")
				}
				s.cloud.ClearFaults()
				s.loggedTimes(`"msg":"the probe can tell again"`, 2)
			})
			if st := s.sees(refresher.Fresh, refresher.Accepted); st.DoubtSince != nil {
				s.Error("the status still tells of the doubt")
			}
			if n := s.cloud.Calls()["tracker/redirected"]; n > 0 {
				s.Errorf("a redirect was followed %d times", n)
			}
			if n := s.cloud.Calls()["iam/Create"]; n != 1 {
				s.Errorf("%d values were minted", n)
			}
			s.ends()
		}
	}
	together(t, cases, func(t *testing.T, f func(*scene)) { play(t, emulator.Options{}, f) })
}

// seconds is a cloud whose tokens live for some.
func seconds(n time.Duration) emulator.Options {
	return emulator.Options{TokenLifetime: n * time.Second}
}

// Each row of "What is published, what is served".
func TestWhatIsPublishedAndServed(t *testing.T) {
	t.Parallel()
	account := emulator.BotAccount
	together(t, map[string]struct {
		cloud emulator.Options
		play  func(*scene)
	}{
		"a candidate that is accepted is published if it differs": {emulator.Options{ReissueUntil: 0.5}, func(s *scene) {
			s.run(plot{})
			s.logged(`"level":"INFO","msg":"published","token":"bot","version":1,.*"verdict":"accepted"`)
			s.ready()
			s.sees(refresher.Fresh, refresher.Accepted)
			s.keeps(func() {
				s.do(0, "^bot: nothing new, the published value stays: the source gave the same value again", "refresh", "bot", "--config", "bot.yaml")
			})
			s.sees(refresher.Fresh, refresher.Accepted)
			s.measures(`iam_token_refreshes_total{result="unchanged",token="bot"} 1`)
			if n := s.cloud.Calls()["tracker/myself"]; n != 1 {
				s.Errorf("the same value was tried %d times", n)
			}
		}},
		"a candidate that gets a 401 is dropped": {emulator.Options{}, func(s *scene) {
			const says = `401: .*: the token is expired, revoked or not one that Tracker takes`
			s.inject(tracker(emulator.KindExpired))
			s.run(plot{})
			s.logged(`"level":"WARN","msg":"new value not published","token":"bot","reason":"the new value was rejected: Tracker at .*` + says + `.*"retry_in"`)
			st := s.sees(refresher.Pending, refresher.Unproven)
			s.matches("the status says", st.LastFailure, says)
			s.do(1, `get token "bot": there is no value yet: .*`+says, "get", "bot", "--config", "bot.yaml")
			s.cloud.ClearFaults()
			s.renews()
			s.sees(refresher.Fresh, refresher.Accepted)
			s.keeps(func() {
				s.inject(tracker(emulator.KindExpired))
				s.do(1, `refresh token "bot": the new value was rejected: .*`+says, "refresh", "bot", "--config", "bot.yaml")
			})
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a candidate that gets a 403 is never the first": {emulator.Options{}, func(s *scene) {
			s.try(s.cloud.SetTrackerAccess(account, false))
			s.run(plot{})
			s.logged(`"level":"WARN","msg":"new value not published","token":"bot","reason":"the new value has no access: Tracker at .*403: .*the account has no access to organization ` + emulator.CloudOrgID)
			s.sees(refresher.Pending, refresher.Unproven)
			s.do(1, `not ready: bot: no value yet: the new value has no access: `, "healthcheck", "--config", "bot.yaml")
			s.try(s.cloud.SetTrackerAccess(account, true))
			s.renews()
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"the wrong organization is a 403 that names both headers": {emulator.Options{}, func(s *scene) {
			s.run(plot{probe: "tracker: {cloud_org_id: bpfsomebodyelses0org}"})
			s.logged(`"msg":"new value not published","token":"bot","reason":".*403: .*X-Cloud-Org-ID.*the account has no access to organization bpfsomebodyelses0org, or it is no Yandex Cloud organization`)
			s.sees(refresher.Pending, refresher.Unproven)
			s.configure("bot", plot{}, false)
			s.logged(`"msg":"configuration changed"`)
			s.ready()
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"the wrong kind of organization is a 403 that names the right one": {emulator.Options{}, func(s *scene) {
			s.run(plot{})
			s.ready()
			s.keeps(func() {
				s.configure("bot", plot{probe: `tracker: {org_id: "` + emulator.OrgID + `"}`}, false)
				s.logged(`"level":"ERROR","msg":"new configuration refused, the old one stays in force","error":"token .*bot.*403: .*X-Org-ID.*then use cloud_org_id in place of org_id`)
			})
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a 429 is asked again when it says": {emulator.Options{}, func(s *scene) {
			f := trackerStatus(emulator.KindError, 429)
			f.RetryAfter, f.Count = 2*time.Second, 1
			s.inject(f)
			s.run(plot{})
			s.logged(`"msg":"new value held back: the probe cannot tell","token":"bot".*429`)
			st := s.status()
			if !st.Candidate || st.State != refresher.Pending {
				s.Errorf("the candidate is not held: %+v", st)
			}
			s.ready()
			s.sees(refresher.Fresh, refresher.Accepted)
			if waited := s.between(`"msg":"new value held back`, `"msg":"published"`); waited < 2*time.Second {
				s.Errorf("Tracker was asked again after %s", waited)
			}
		}},
		"a candidate that nothing can be told of is held while the current value has time": {emulator.Options{}, func(s *scene) {
			s.run(plot{probe: org + ", grace: 1ms"})
			s.ready()
			s.keeps(func() {
				s.inject(trackerStatus(emulator.KindError, 500))
				s.do(0, "^bot: a new value was minted and is waiting for a probe's verdict: Tracker at .*500", "refresh", "bot", "--config", "bot.yaml")
				st := s.sees(refresher.Fresh, refresher.Accepted)
				s.matches("the status says", st.Reason, "the new value is held back until a probe can tell: Tracker at .*500")
				if !st.Candidate {
					s.Error("the status does not tell of the candidate")
				}
				s.inject(trackerStatus(emulator.KindError, 500)) // a newer one takes its place
				s.do(0, "^bot: a new value was minted and is waiting for a probe's verdict", "refresh", "bot", "--config", "bot.yaml")
			})
			s.cloud.ClearFaults()
			s.renews()
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a candidate that nothing can be told of replaces a value near its end": {seconds(9), func(s *scene) {
			s.run(plot{})
			s.ready()
			s.inject(trackerStatus(emulator.KindError, 500))
			s.logged(`"level":"WARN","msg":"published without an accepted probe: no probe could tell: Tracker at .*500.*"version":2`)
			s.published(2)
			s.sees(refresher.Unverified, refresher.Unknown)
			if strings.Contains(s.daemon.log.text(), `"msg":"expired`) {
				s.Error("the value expired meanwhile")
			}
			s.cloud.ClearFaults()
			s.report()
			s.logged(`"msg":"accepted again"`)
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a candidate that nothing can be told of is not published where a proof is required": {seconds(4), func(s *scene) {
			s.run(plot{probe: org + ", grace: 1ms, required: true"})
			s.ready()
			text := s.file()
			s.inject(trackerStatus(emulator.KindError, 500))
			s.logged(`"level":"ERROR","msg":"expired: readers of sockets get 503, files keep the old value"`)
			s.sees(refresher.Expired, refresher.Accepted)
			if s.file() != text {
				s.Error("the file does not keep the old value")
			}
			s.cloud.ClearFaults()
			s.renews()
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a published value that is rejected twice is served no more": {emulator.Options{}, func(s *scene) {
			s.run(plot{})
			s.ready()
			text := s.file()
			s.inject(iamDown)
			s.cloud.Revoke(text)
			s.report()
			s.logged(`"level":"WARN","msg":"the published value was rejected once; it is probed again","token":"bot","verdict":"rejected: token","reason":"Tracker at .*401: `)
			s.sees(refresher.Fresh, refresher.Accepted)
			s.logged(`"level":"ERROR","msg":"revoked: readers of sockets get 503 until there is a new value","token":"bot","verdict":"rejected: token","reason":"Tracker at .*401: `)
			s.sees(refresher.Revoked, refresher.RejectedToken)
			s.do(1, `get token "bot": the value was revoked and there is no other yet: `, "get", "bot", "--config", "bot.yaml")
			s.do(1, `not ready: bot: revoked: `, "healthcheck", "--config", "bot.yaml")
			if s.file() != text {
				s.Error("the file does not keep the old value")
			}
			s.cloud.ClearFaults()
			s.renews()
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a published value that is rejected is replaced at once": {emulator.Options{}, func(s *scene) {
			s.run(plot{})
			s.ready()
			s.cloud.Revoke(s.file())
			s.report()
			s.logged(`"msg":"published".*"version":2`)
			s.published(2)
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a published value that is revoked is not published again": {emulator.Options{}, func(s *scene) {
			s.run(plot{})
			s.ready()
			text := s.file()
			s.inject(emulator.Fault{Service: emulator.ServiceIAM, Kind: emulator.KindSameToken})
			s.cloud.Revoke(text)
			s.report()
			s.logged(`"level":"WARN","msg":"new value not published","token":"bot","reason":"the source gave the revoked value again"`)
			s.sees(refresher.Revoked, refresher.RejectedToken)
			s.do(0, "the source gave the revoked value again", "refresh", "bot", "--config", "bot.yaml")
			s.sees(refresher.Revoked, refresher.RejectedToken)
			s.cloud.ClearFaults()
			s.renews()
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
		"a 401 that is not confirmed changes nothing": {emulator.Options{}, func(s *scene) {
			s.run(plot{})
			s.ready()
			s.keeps(func() {
				f := tracker(emulator.KindExpired)
				f.Count = 1
				s.inject(f)
				s.report()
				s.logged(`"msg":"the published value was rejected once`)
				s.logged(`"msg":"probed","token":"bot","verdict":"accepted"`)
			})
			s.sees(refresher.Fresh, refresher.Accepted)
			if n := s.cloud.Calls()["iam/Create"]; n != 1 {
				s.Errorf("%d values were minted", n)
			}
		}},
		"a published value that gets a 403 stays served": {emulator.Options{}, func(s *scene) {
			s.run(plot{probe: org + often})
			s.ready()
			s.keeps(func() {
				s.try(s.cloud.SetTrackerAccess(account, false))
				s.logged(`"level":"WARN","msg":"no access: the value stays served","token":"bot","verdict":"rejected: access","reason":"Tracker at .*403: `)
				s.sees(refresher.NoAccess, refresher.RejectedAccess)
				s.do(0, "", "healthcheck", "--config", "bot.yaml")
				if n := s.cloud.Calls()["iam/Create"]; n != 1 {
					s.Errorf("%d values were minted", n)
				}
				s.try(s.cloud.SetTrackerAccess(account, true))
				s.logged(`"level":"INFO","msg":"accepted again"`)
				s.sees(refresher.Fresh, refresher.Accepted)
				s.try(s.cloud.SetTrackerAccess(account, false))
				s.loggedTimes(`"msg":"no access: the value stays served"`, 2)
				s.do(1, `refresh token "bot": the new value has no access: `, "refresh", "bot", "--config", "bot.yaml")
			})
			s.sees(refresher.NoAccess, refresher.RejectedAccess)
		}},
		"a value without access replaces one that has none either and is near its end": {seconds(9), func(s *scene) {
			s.run(plot{})
			s.ready()
			s.try(s.cloud.SetTrackerAccess(account, false))
			s.report()
			s.logged(`"msg":"no access: the value stays served"`)
			s.logged(`"level":"WARN","msg":"published without an accepted probe: neither the old value nor the new one has access.*"version":2.*"verdict":"rejected: access"`)
			s.published(2)
			s.sees(refresher.NoAccess, refresher.RejectedAccess)
			if strings.Contains(s.daemon.log.text(), `"msg":"expired`) {
				s.Error("the value expired meanwhile")
			}
		}},
		"a value without access is never published where a proof is required": {seconds(4), func(s *scene) {
			s.run(plot{probe: org + ", required: true"})
			s.ready()
			s.try(s.cloud.SetTrackerAccess(account, false))
			s.report()
			s.logged(`"msg":"expired: readers of sockets get 503`)
			s.sees(refresher.Expired, refresher.RejectedAccess)
			s.do(1, `get token "bot": the value has expired and there is no other yet: .*has no access`, "get", "bot", "--config", "bot.yaml")
		}},
		"a published value that expires is served no more": {seconds(3), func(s *scene) {
			s.run(plot{})
			s.ready()
			text := s.file()
			s.inject(iamDown)
			s.logged(`"level":"ERROR","msg":"expired: readers of sockets get 503, files keep the old value","token":"bot","failed_attempts":[1-9].*"reason":"create IAM token .*UNAVAILABLE`)
			s.sees(refresher.Expired, refresher.Accepted)
			s.do(1, `get token "bot": the value has expired and there is no other yet: .*UNAVAILABLE`, "get", "bot", "--config", "bot.yaml")
			s.do(1, `not ready: bot: expired .*UNAVAILABLE`, "healthcheck", "--config", "bot.yaml")
			if s.file() != text {
				s.Error("the file does not keep the old value")
			}
			s.cloud.ClearFaults()
			s.renews()
		}},
		"a value whose end nobody knows is served for a minute at a time": {emulator.Options{}, func(s *scene) {
			raw := func() {
				value, _, err := s.cloud.Mint(account, time.Hour)
				s.try(err)
				s.write("raw", value)
			}
			raw()
			s.run(plot{source: "token_file: {path: $S/raw}"})
			s.ready()
			if st := s.sees(refresher.Fresh, refresher.Accepted); st.ExpiresAt != nil || s.read().ExpiresIn != nil {
				s.Error("an end is told")
			}
			_, body := s.get(http.DefaultClient, "http://"+s.metadata+"/computeMetadata/v1/instance/service-accounts/bot/token", "Metadata-Flavor", "Google")
			if !strings.Contains(body, `"expires_in":60,`) {
				s.Error("the metadata listener does not say that clients are to come back in 60 s")
			}
			raw()
			s.published(2)
			s.sees(refresher.Fresh, refresher.Accepted)
		}},
	}, func(t *testing.T, c struct {
		cloud emulator.Options
		play  func(*scene)
	},
	) {
		play(t, c.cloud, func(s *scene) {
			c.play(s)
			s.ends()
		})
	})
}

// between is the time from one line of the log to another.
func (s *scene) between(first, second string) time.Duration {
	s.Helper()
	at := func(what string) time.Time {
		for line := range strings.Lines(s.daemon.log.text()) {
			if strings.Contains(line, what) {
				when, err := time.Parse(time.RFC3339Nano, between(line, `"time":"`, `"`))
				s.try(err)
				return when
			}
		}
		s.Fatalf("the log has no %s", what)
		return time.Time{}
	}
	return at(second).Sub(at(first))
}
