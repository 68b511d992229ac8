package emulator_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/grpc/codes"

	"iam-token-refresher/refresher/emulator"
)

func (c *cloud) admin(method, path, body string) answer {
	c.t.Helper()
	return c.must(method, c.Endpoints().Admin+path, body)
}

func TestEverythingCanBeDoneOverTheAdminService(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	value := c.mint().IamToken

	wantStatus(t, c.admin("GET", "/", ""), 200, emulator.CloudOrgID)
	wantStatus(t, c.admin("POST", "/faults", `{"service":"tracker","kind":"status","status":503,"count":2,"for":"10m"}`), 200, `"for":"10m0s"`)
	wantStatus(t, c.myself(value), 503, "")
	wantStatus(t, c.admin("GET", "/faults", ""), 200, `"count":1,"for":"9m`)
	wantStatus(t, c.admin("DELETE", "/faults?service=iam", ""), 204, "")
	wantStatus(t, c.myself(value), 503, "")
	wantStatus(t, c.admin("POST", "/faults", `{"service":"tracker","kind":"error"}`), 200, "")
	wantStatus(t, c.admin("DELETE", "/faults", ""), 204, "")
	wantStatus(t, c.myself(value), 200, "")
	wantStatus(t, c.admin("DELETE", "/faults?service=moon", ""), 400, "moon")

	wantStatus(t, c.admin("GET", "/calls", ""), 200, `"tracker/myself":3`)
	wantStatus(t, c.admin("DELETE", "/calls", ""), 204, "")
	wantStatus(t, c.admin("GET", "/calls", ""), 200, `{}`)

	wantStatus(t, c.admin("POST", "/revoke", `{"token":"`+value+`"}`), 204, "")
	wantStatus(t, c.myself(value), 401, "revoked")
	wantStatus(t, c.admin("POST", "/revoke", `{"token":"rubbish"}`), 404, "never issued")
	wantStatus(t, c.admin("POST", "/revoke", `{}`), 400, "token is missing")
	wantStatus(t, c.admin("GET", "/tokens", ""), 200, value)

	minted := c.admin("POST", "/tokens", `{"lifetime":"3s"}`)
	wantStatus(t, minted, 200, "expires_at")
	value = minted.text(t, "token")
	wantStatus(t, c.myself(value), 200, emulator.BotAccount)
	wantStatus(t, c.admin("POST", "/clock", `{"offset":"5s"}`), 200, `"offset":"5s"`)
	wantStatus(t, c.myself(value), 401, "expired")
	wantStatus(t, c.admin("POST", "/clock", `{"offset":"0s"}`), 200, "now")
	wantStatus(t, c.admin("POST", "/clock", `{}`), 400, "offset")
	wantStatus(t, c.admin("GET", "/clock", ""), 200, `"offset":"0s"`)

	wantStatus(t, c.admin("POST", "/accounts/"+emulator.BotAccount+"/tracker", `{"allowed":false}`), 204, "")
	wantStatus(t, c.myself(value), 403, "")
	wantStatus(t, c.admin("POST", "/accounts/"+emulator.BotAccount+"/tracker", `{}`), 400, "allowed")
	wantStatus(t, c.admin("POST", "/accounts/"+emulator.BotAccount+"/tracker", `{"allowed":true}`), 204, "")
	wantStatus(t, c.admin("POST", "/accounts/"+emulator.BotAccount+"/disable", ""), 204, "")
	wantStatus(t, c.myself(value), 401, "deleted")
	wantStatus(t, c.admin("GET", "/accounts", ""), 200, `"deleted":true`)
	wantStatus(t, c.admin("POST", "/accounts/"+emulator.BotAccount+"/enable", ""), 204, "")
	wantStatus(t, c.admin("POST", "/accounts/ajenobody/disable", ""), 404, "ajenobody")
	_, err := c.impersonate(value, emulator.OutsiderAccount)
	wantCode(t, err, codes.PermissionDenied, "")
	wantStatus(t, c.admin("POST", "/accounts/"+emulator.BotAccount+"/impersonate", `{"account":"`+emulator.OutsiderAccount+`","allowed":true}`), 204, "")
	if _, err := c.impersonate(value, emulator.OutsiderAccount); err != nil {
		t.Error(err)
	}

	made := c.admin("POST", "/keys", `{}`)
	wantStatus(t, made, 200, "{\n   \"id\": ")
	k, private := parseKey(t, []byte(made.body))
	j := c.goodClaim()
	j.kid, j.iss, j.key = k.ID, k.Account, private
	if _, err := c.create(j.sign(t)); err != nil {
		t.Error(err)
	}
	wantStatus(t, c.admin("DELETE", "/keys/"+k.ID, ""), 204, "")
	wantStatus(t, c.admin("DELETE", "/keys/"+k.ID, ""), 404, k.ID)
	_, err = c.create(j.sign(t))
	wantCode(t, err, codes.Unauthenticated, "does not exist")
	wantStatus(t, c.admin("POST", "/keys", `{"account":"ajenobody"}`), 400, "ajenobody")

	wantStatus(t, c.admin("POST", "/metadata", `{"account":""}`), 204, "")
	wantStatus(t, c.metadataToken(), 404, "")
	wantStatus(t, c.admin("POST", "/metadata", `{"left":"3s"}`), 204, "")
	if left := c.metadataToken().json(t)["expires_in"].(float64); left > 3 {
		t.Errorf("%v s are left", left)
	}

	wantStatus(t, c.admin("POST", "/subjects", `{"subject":"job","account":"`+emulator.TargetAccount+`"}`), 204, "")
	subject := c.admin("POST", "/subject-tokens", `{"subject":"job","lifetime":"1m"}`).text(t, "token")
	wantStatus(t, c.must("POST", c.Endpoints().TokenExchange, exchangeForm(emulator.TargetAccount, subject).Encode(), formType), 200, "access_token")

	login := c.admin("POST", "/oauth/logins", `{"scope":"tracker:read"}`)
	wantStatus(t, c.asPerson(login.text(t, "access_token")), 200, "uid")
	wantStatus(t, c.admin("POST", "/oauth/logins", `{"scope":"disk:read"}`), 400, "disk:read")
	code := c.must("POST", c.Endpoints().OAuth+"/device/code", "client_id="+emulator.ClientID, formType).text(t, "user_code")
	wantStatus(t, c.admin("GET", "/oauth/devices", ""), 200, code)
	wantStatus(t, c.admin("POST", "/oauth/devices/"+code, `{"decision":"deny"}`), 204, "")
	wantStatus(t, c.admin("POST", "/oauth/devices/"+code, `{"decision":"deny"}`), 400, "no device")
}

func TestAdminErrorsAreClear(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/moon", "", 404, "GET /moon"},
		{"PUT", "/faults", "", 404, "PUT /faults"},
		{"POST", "/revoke", `{"tokne":"x"}`, 400, "tokne"},
		{"POST", "/revoke", `{"token":`, 400, "read the request body"},
		{"POST", "/revoke", `{"token":"x"} {}`, 400, "one JSON object"},
		{"POST", "/tokens", `{"lifetime":"soon"}`, 400, "soon"},
		{"POST", "/tokens", `{"account":"ajenobody"}`, 400, "ajenobody"},
	} {
		a := c.admin(test.method, test.path, test.body)
		if message, _ := a.json(t)["error"].(string); a.status != test.status || !strings.Contains(message, test.want) {
			t.Errorf("%s %s %s: got %d %s", test.method, test.path, test.body, a.status, a.body)
		}
	}
}

func TestFaultsSurviveTheirOwnJSON(t *testing.T) {
	t.Parallel()
	f := emulator.Fault{
		Service: "iam", Method: "Create", Kind: "error", Status: 503, Code: "UNAVAILABLE", Message: "m",
		Count: 3, For: time.Minute, RetryAfter: 30 * time.Second, Location: "l", Latency: time.Second,
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back emulator.Fault
	if err := json.Unmarshal(b, &back); err != nil || back != f {
		t.Errorf("%s became %+v, %v", b, back, err)
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	c.inject(emulator.Fault{Service: "iam", Kind: "hang"})
	done := make(chan error)
	go func() {
		_, err := iampb.NewIamTokenServiceClient(c.iam).Create(t.Context(), &iampb.CreateIamTokenRequest{})
		done <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("a call succeeded")
	}
	if err := c.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) { // not parallel: it looks at all goroutines
	c := start(t, emulator.Options{})
	c.inject(emulator.Fault{Service: "tracker", Kind: "hang"})
	done := make(chan error)
	go func() {
		_, err := c.do("GET", c.Endpoints().Tracker+"/v3/myself", "")
		done <- err
	}()
	c.mint()
	c.metadataToken()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(g, "refresher/emulator.(*") {
			t.Errorf("still running:\n%s", g)
		}
	}
}

func TestTheLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // slog's handlers write one record at a time
	c := start(t, emulator.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for service, call := range c.httpCalls() {
		if a, err := call(); err != nil || a.status != 200 {
			t.Errorf("%s: %v, %d", service, err, a.status)
		}
		c.inject(emulator.Fault{Service: service, Kind: "error"})
		_, _ = call()
	}
	c.ClearFaults()
	_, _ = c.create(c.goodClaim().sign(t) + "x")
	wantStatus(t, c.myself("an-unknown-token"), 401, "unknown")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	if n := strings.Count(text, "msg=call"); n < 14 {
		t.Errorf("%d calls were logged:\n%s", n, text)
	}
	for _, secret := range append(c.Issued(), emulator.ClientSecret, "an-unknown-token", "eyJ") {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q in it:\n%s", secret, text)
		}
	}
}
