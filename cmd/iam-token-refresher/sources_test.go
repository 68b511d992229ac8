package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// makings are working sources: what they are made of and how they are configured.
var makings = map[string]struct {
	source string
	make   func(*scene)
	// who mints: the account that may be refused to act for another.
	who string
}{
	"service_account_key": {"service_account_key: {file: $S/key.json}", copyOf("key.json"), emulator.BotAccount},
	"metadata":            {"metadata: {}", nil, emulator.BotAccount},
	"workload_identity":   {"workload_identity: {service_account_id: " + emulator.BotAccount + ", token_file: $S/oidc.jwt}", copyOf("oidc.jwt"), emulator.BotAccount},
	"oauth_token":         {"oauth_token: {file: $S/oauth.token}", copyOf("oauth.token"), emulator.Person},
	byImpersonator: {
		"workload_identity: {service_account_id: " + emulator.BotAccount + ", token_file: $S/oidc.jwt}, impersonate: " + emulator.TargetAccount,
		both(copyOf("oidc.jwt"), func(s *scene) { s.try(s.cloud.AllowImpersonation(emulator.BotAccount, emulator.TargetAccount, true)) }),
		emulator.BotAccount,
	},
	byLogin:      {oauthSource, func(s *scene) { s.keepsLogin(overdue) }, emulator.Person},
	"command":    {"command: {argv: [/bin/sh, $S/mint.sh], timeout: 2s}", script(`cat $S/yc.json`), emulator.BotAccount},
	"token_file": {"token_file: {path: $S/yc.json}", mintFile("yc.json", time.Hour), emulator.BotAccount},
}

// copyOf copies a file of the cloud, to be spoilt.
func copyOf(name string) func(*scene) {
	return func(s *scene) {
		text, err := os.ReadFile(s.path("cloud/" + name))
		if err != nil {
			s.Fatal(err)
		}
		s.write(name, string(text))
	}
}

// mintFile writes a value as yc does.
func mintFile(name string, lifetime time.Duration) func(*scene) {
	return func(s *scene) {
		value, expires, err := s.cloud.Mint(emulator.BotAccount, lifetime)
		if err != nil {
			s.Fatal(err)
		}
		s.write(name, fmt.Sprintf(`{"iam_token": %q, "expires_at": %q}`, value, expires.UTC().Format(time.RFC3339Nano)))
	}
}

// script makes a program that mints; it finds another value in yc.json each time.
func script(lines string) func(*scene) {
	return func(s *scene) {
		mintFile("yc.json", time.Hour)(s)
		s.write("mint.sh", strings.ReplaceAll(lines, "$S", s.dir)+"\n")
	}
}

func holding(name, text string) func(*scene) { return func(s *scene) { s.write(name, text) } }

func remove(name string) func(*scene) {
	return func(s *scene) {
		if err := os.Remove(s.path(name)); err != nil {
			s.Fatal(err)
		}
	}
}

// subject writes the workload's token.
func subject(claims emulator.SubjectClaims) func(*scene) {
	return func(s *scene) {
		token, err := s.cloud.SignSubject(claims)
		if err != nil {
			s.Fatal(err)
		}
		s.write("oidc.jwt", token)
	}
}

func (s *scene) try(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// wrongKey writes a key that IAM knows by another public half.
func wrongKey(s *scene) {
	key, err := s.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{Mismatched: true})
	s.try(err)
	s.write("key.json", string(key.File))
}

// deleteKey deletes the key in key.json.
func deleteKey(s *scene) {
	text, err := os.ReadFile(s.path("key.json"))
	s.try(err)
	if !s.cloud.DeleteKey(between(string(text), `"id": "`, `"`)) {
		s.Fatal("no key was deleted")
	}
}

func noMachineAccount(s *scene) { s.try(s.cloud.SetMetadata("", 0)) }

func deleteAccount(s *scene) { s.try(s.cloud.DeleteAccount(emulator.BotAccount)) }

// revokeLogin makes the person's OAuth token worthless.
func revokeLogin(s *scene) {
	text, err := os.ReadFile(s.path("oauth.token"))
	s.try(err)
	if !s.cloud.Revoke(strings.TrimSpace(string(text))) {
		s.Fatal("no login was revoked")
	}
}

// both does one thing after another.
func both(steps ...func(*scene)) func(*scene) {
	return func(s *scene) {
		for _, step := range steps {
			step(s)
		}
	}
}

func TestSourcePublishesAndARefusalLeavesWhatIsPublished(t *testing.T) {
	t.Parallel()
	printsToken := "echo progress >&2; cat $S/yc.json; cat $S/yc.json >&2; exit 7"
	for source, refusals := range map[string]map[string]struct {
		harm func(*scene)
		// says is what log, status and the refresh command say: what failed,
		// and what to do.
		says string
		mend func(*scene)
	}{
		"service_account_key": {
			"its key is deleted":     {harm: deleteKey, says: "create IAM token at 127.* with key .*: UNAUTHENTICATED: .*the key was deleted or belongs to another account.*: make a new one with yc iam key create --service-account-id " + emulator.BotAccount},
			"its account is deleted": {harm: deleteAccount, says: "UNAUTHENTICATED: .*or the account is gone: ", mend: func(s *scene) { s.try(s.cloud.RestoreAccount(emulator.BotAccount)) }},
		},
		"metadata": {
			"the machine has no service account": {harm: noMachineAccount, says: "get token from the metadata service at http://127.*: 404: no service account is attached to this virtual machine: attach one with yc compute instance update", mend: func(s *scene) { s.try(s.cloud.SetMetadata(emulator.BotAccount, 0)) }},
			"its account is deleted":             {harm: deleteAccount, says: "404: no service account is attached"},
		},
		"workload_identity": {
			"the subject token expired":              {harm: subject(emulator.SubjectClaims{Lifetime: -5 * time.Minute}), says: "exchange workload token .*/oidc.jwt .*the workload token expired 5 min ago: whoever writes .*/oidc.jwt .*has stopped renewing it", mend: copyOf("oidc.jwt")},
			"the subject token has another audience": {harm: subject(emulator.SubjectClaims{Audience: []string{"somebody-else"}}), says: "400: .*invalid_request.*check the federation and its federated credentials for " + emulator.BotAccount + ".*issuer, audience and subject", mend: copyOf("oidc.jwt")},
			"the subject token has another issuer":   {harm: subject(emulator.SubjectClaims{Issuer: "https://issuer.example"}), says: "400: .*issuer, audience and subject must be those of the token"},
			"the subject is linked to nobody":        {harm: subject(emulator.SubjectClaims{Subject: "system:serviceaccount:default:other"}), says: "400: .*issuer, audience and subject must be those of the token"},
			"its account is deleted":                 {harm: deleteAccount, says: "400: .*check the federation"},
			"the subject token is empty":             {harm: holding("oidc.jwt", ""), says: "workload token .*/oidc.jwt is empty"},
			"the subject token is gone":              {harm: remove("oidc.jwt"), says: "workload token .*/oidc.jwt does not exist: check the path", mend: copyOf("oidc.jwt")},
			"the subject token is rubbish":           {harm: holding("oidc.jwt", "<html>\n<body>"), says: "the workload token has 2 lines; a token is one: check who writes .*/oidc.jwt"},
		},
		"oauth_token": {
			"the login is revoked": {harm: revokeLogin, says: "create IAM token at 127.*UNAUTHENTICATED: .*(OAuth|log in|new one)"},
		},
		"command": {
			"it fails":              {harm: script("echo 'you are not logged in' >&2; exit 3"), says: "run /bin/sh: it failed with exit code 3: .*you are not logged in.*: run it by hand as the same user", mend: script("cat $S/yc.json")},
			"it fails with a token": {harm: script(printsToken), says: "it failed with exit code 7"},
			"it is killed":          {harm: script("kill -9 $$"), says: "it was ended by signal 9 .killed.: .*memory ran out.*run it by hand"},
			"it hangs":              {harm: script("sleep 60 & sleep 60"), says: "it did not end within 2s and was killed: run it by hand as the same user: it may wait for a login", mend: script("cat $S/yc.json")},
			"it prints nothing":     {harm: script("true"), says: `its output \(0 bytes\) is empty: it must print a token, or JSON with iam_token and expires_at, and nothing else`},
			"it prints rubbish":     {harm: script("echo one; echo two"), says: "its output .8 bytes. has 2 lines; a token is one: it must print a token"},
			"it prints other JSON":  {harm: script("echo '{\"error\": 1}'"), says: "is JSON without .*iam_token.*: it must print a token"},
			"it prints no JSON":     {harm: script("echo '{\"iam_token\": '"), says: "is not valid JSON .*: it must print a token"},
			"it prints too much":    {harm: script("cat /dev/zero"), says: "it printed more than 65536 bytes and was killed"},
			"its token has expired": {harm: both(script("cat $S/yc.json"), mintFile("yc.json", -time.Minute)), says: "the token it gave expired (59|6.) s ago"},
			"the program is gone":   {harm: remove("mint.sh"), says: "run /bin/sh: it failed with exit code (2|127): "},
		},
		"token_file": {
			"it is empty":           {harm: holding("yc.json", ""), says: "read token from .*/yc.json: token file .*/yc.json is empty", mend: mintFile("yc.json", 2*time.Hour)},
			"it is missing":         {harm: remove("yc.json"), says: "token file .*/yc.json does not exist: check the path", mend: mintFile("yc.json", 2*time.Hour)},
			"it is rubbish":         {harm: holding("yc.json", "<html>\n<body>\n"), says: "its content has 2 lines; a token is one: check who writes it"},
			"it is other JSON":      {harm: holding("yc.json", `{"token": 42}`), says: "its content is JSON without .*iam_token.*: check who writes it"},
			"its token has expired": {harm: mintFile("yc.json", -time.Minute), says: "the token in it expired (59|6.) s ago: whoever writes it has stopped renewing it"},
		},
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			m := makings[source]
			cases := map[string]func(*scene){}
			for name, r := range refusals {
				cases[name] = func(s *scene) {
					s.refused(plot{source: m.source}, m.make, r.harm, r.says, r.mend)
				}
			}
			cases["it may no longer act for another"] = func(s *scene) {
				s.try(s.cloud.AllowImpersonation(m.who, emulator.TargetAccount, true))
				s.refused(plot{source: m.source + ", impersonate: " + emulator.TargetAccount}, m.make, func(s *scene) {
					if s.cloud.Calls()["iam/CreateForServiceAccount"] == 0 {
						s.Error("nobody was impersonated")
					}
					s.try(s.cloud.AllowImpersonation(m.who, emulator.TargetAccount, false))
				}, "create IAM token for service account "+emulator.TargetAccount+".*PERMISSION_DENIED.*may not act for it: grant it iam.serviceAccounts.tokenCreator on "+emulator.TargetAccount,
					func(s *scene) { s.try(s.cloud.AllowImpersonation(m.who, emulator.TargetAccount, true)) })
			}
			together(t, cases, func(t *testing.T, f func(*scene)) { play(t, emulator.Options{}, f) })
		})
	}
}

// refused publishes a first value, harms the source, and wants words and
// nothing else to change.
func (s *scene) refused(p plot, prepare, harm func(*scene), says string, mend func(*scene)) {
	s.Helper()
	if prepare != nil {
		prepare(s)
	}
	s.run(p)
	s.ready()
	s.sees(refresher.Fresh, refresher.Accepted)
	s.keeps(func() {
		harm(s)
		s.do(1, `^iam-token-refresher: refresh token "bot": .*`+says, "refresh", "bot", "--config", "bot.yaml")
		s.logged(`"level":"WARN","msg":"refresh failed","token":"bot","error":".*` + says)
	})
	st := s.sees(refresher.Fresh, refresher.Accepted)
	for range 1000 { // while the next attempt is under way there is no plan
		if st.NextRefresh != nil {
			break
		}
		st = s.status()
	}
	s.matches("the status says", st.LastFailure, says)
	if st.Failures == 0 || st.NextRefresh == nil {
		s.Errorf("after a failure the status has %d and no plan: %+v", st.Failures, st)
	}
	s.measures(`iam_token_refreshes_total{result="failed",token="bot"}`)
	s.do(0, "", "get", "bot", "--config", "bot.yaml")
	if mend != nil {
		mend(s)
		if strings.HasPrefix(p.source, "token_file") && !strings.Contains(p.source, "impersonate") {
			s.published(2) // by itself: the file is watched
		} else {
			s.renews()
		}
		s.sees(refresher.Fresh, refresher.Accepted)
	}
	s.ends()
}

func TestSourceThatNeverWorkedIsExplained(t *testing.T) {
	t.Parallel()
	together(t, map[string]struct {
		source, says string
		prepare      func(*scene)
	}{
		"a key that IAM knows otherwise": {
			"service_account_key: {file: $S/key.json}", "UNAUTHENTICATED: .*the key was deleted or belongs to another account", wrongKey,
		},
		"a key that was deleted": {
			"service_account_key: {file: $S/key.json}", "UNAUTHENTICATED: .*make a new one with yc iam key create", both(copyOf("key.json"), deleteKey),
		},
		"a machine without a service account": {"metadata: {}", "404: no service account is attached to this virtual machine", noMachineAccount},
		"a federation for another account": {
			"workload_identity: {service_account_id: " + emulator.TargetAccount + ", token_file: $D/oidc.jwt}", "400: .*invalid_target.*check the federation .*" + emulator.TargetAccount, nil,
		},
		"a revoked login": {"oauth_token: {file: $S/oauth.token}", "UNAUTHENTICATED", both(copyOf("oauth.token"), revokeLogin)},
		"a program that is not there": {
			"command: {argv: [/nonexistent/yc]}", "run /nonexistent/yc: there is no such program: give its full path, or install it", nil,
		},
		"a program that must not run": {
			"command: {argv: [$S/yc]}", "permission denied: this user may not execute it: check its mode", holding("yc", "echo"),
		},
		"a file that is not there": {"token_file: {path: $S/none}", "token file .*/none does not exist: check the path", nil},
		"an account that may not be acted for": {
			"service_account_key: {file: $D/key.json}, impersonate: " + emulator.OutsiderAccount, "PERMISSION_DENIED.*grant it iam.serviceAccounts.tokenCreator", nil,
		},
		"an account that is not there": {
			"metadata: {}, impersonate: aje0000000000000none", "NOT_FOUND.*the account does not exist, or", nil,
		},
	}, func(t *testing.T, c struct {
		source, says string
		prepare      func(*scene)
	},
	) {
		play(t, emulator.Options{}, func(s *scene) {
			if c.prepare != nil {
				c.prepare(s)
			}
			s.run(plot{source: c.source})
			s.logged(`"msg":"refresh failed","token":"bot","error":".*` + c.says)
			st := s.sees(refresher.Pending, refresher.Unproven)
			s.matches("the status says", st.LastFailure, c.says)
			s.do(1, `^iam-token-refresher: get token "bot": there is no value yet: .*`+c.says, "get", "bot", "--config", "bot.yaml")
			s.do(1, `^iam-token-refresher: not ready: bot: no value yet: .*`+c.says, "healthcheck", "--config", "bot.yaml")
			s.do(1, `bot\n  ok   source: .*\n  FAIL mint: .*`+c.says+`.*\n  skip probe: there is no value to try\n`, "check", "--config", "bot.yaml")
			s.ends()
		})
	})
}

func TestKeyThatDoesNotWorkIsNotTakenIntoUse(t *testing.T) {
	t.Parallel()
	together(t, map[string]struct {
		kind, says string
		harm       func(*scene)
	}{
		"a key that IAM knows otherwise":       {"service_account_key", "UNAUTHENTICATED: .*the key was deleted or belongs to another account", wrongKey},
		"a key that is no JSON":                {"service_account_key", "key file .*/key.json is not valid JSON", holding("key.json", "{")},
		"an empty key file":                    {"service_account_key", "key file .*/key.json is empty", holding("key.json", "")},
		"a key file that is gone":              {"service_account_key", "key file .*/key.json does not exist", remove("key.json")},
		"a key without its private half":       {"service_account_key", "has no .*private_key", holding("key.json", `{"id":"a","service_account_id":"b"}`)},
		"an empty login":                       {"oauth_token", "OAuth token file .*/oauth.token is empty", holding("oauth.token", "")},
		"a login that the cloud does not know": {"oauth_token", "UNAUTHENTICATED", holding("oauth.token", "y0_"+strings.Repeat("x", 40))},
		"a login file that is gone":            {"oauth_token", "OAuth token file .*/oauth.token does not exist", remove("oauth.token")},
	}, func(t *testing.T, c struct {
		kind, says string
		harm       func(*scene)
	},
	) {
		play(t, emulator.Options{}, func(s *scene) {
			m := makings[c.kind]
			m.make(s)
			s.run(plot{source: m.source})
			s.ready()
			s.keeps(func() {
				c.harm(s)
				s.logged(`"level":"ERROR","msg":"new key refused, the old one stays in force","error":".*` + c.says)
			})
			s.sees(refresher.Fresh, refresher.Accepted)
			s.measures(`iam_token_config_reloads_total{result="failure"} 1`)
			s.renews() // with the old key
			m.make(s)  // which comes back
			s.renews()
			s.ends()
		})
	})
}

// The machine's own agent has used the token up: it is better than nothing,
// and not better than what there is.
func TestMetadataTokenWithThreeSecondsLeft(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{source: "metadata: {}"})
		s.ready()
		s.keeps(func() {
			s.try(s.cloud.SetMetadata(emulator.BotAccount, 3*time.Second))
			s.do(0, "^bot: nothing new, the published value stays: the new value does not live longer than the published one", "refresh", "bot", "--config", "bot.yaml")
			s.logged(`"msg":"new value not published","token":"bot","reason":"the new value does not live longer`)
		})
		s.sees(refresher.Fresh, refresher.Accepted)
		s.measures(`iam_token_refreshes_total{result="unchanged",token="bot"} 1`)
		s.ends()

		s.configure("once", plot{source: "metadata: {}"}, true)
		s.do(0, `"msg":"published".*"expires_in":"[0-3](\.[0-9]+)?s"`, "once", "--config", "once.yaml")
	})
}
