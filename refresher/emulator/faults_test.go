package emulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yandex-cloud/go-genproto/yandex/cloud/endpoint"
	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"iam-token-refresher/refresher/emulator"
)

// signals is a log handler that passes on the messages it gets.
type signals chan string

func (s signals) Enabled(context.Context, slog.Level) bool { return true }
func (s signals) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s signals) WithGroup(string) slog.Handler            { return s }
func (s signals) Handle(_ context.Context, r slog.Record) error {
	select {
	case s <- r.Message:
	default:
	}
	return nil
}

// httpCalls are the usual calls of the HTTP services.
func (c *cloud) httpCalls() map[string]func() (answer, error) {
	p := c.Endpoints()
	return map[string]func() (answer, error){
		"metadata": func() (answer, error) {
			return c.do("GET", p.Metadata+"/computeMetadata/v1/instance/service-accounts/default/token", "", "Metadata-Flavor: Google")
		},
		"token_exchange": func() (answer, error) {
			return c.do("POST", p.TokenExchange, exchangeForm(emulator.BotAccount, c.read("oidc.jwt")).Encode(), formType)
		},
		"oauth": func() (answer, error) {
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.NewLogin("").RefreshToken}, "client_id": {emulator.ClientID}, "client_secret": {emulator.ClientSecret}}
			return c.do("POST", p.OAuth+"/token", form.Encode(), formType)
		},
		"tracker": func() (answer, error) {
			value, _, _ := c.Mint(emulator.BotAccount, 0)
			return c.do("GET", p.Tracker+"/v3/myself", "", "Authorization: Bearer "+value, cloudOrg)
		},
		"iam": func() (answer, error) {
			return c.do("POST", "https://"+p.IAM+"/iam/v1/tokens", `{"jwt":"`+c.goodClaim().sign(c.t)+`"}`)
		},
		"api": func() (answer, error) { return c.do("GET", "https://"+p.API+"/endpoints", "") },
	}
}

func TestFaultsOfHTTPServices(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	for service, call := range c.httpCalls() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			good := func(t *testing.T) {
				t.Helper()
				if a, err := call(); err != nil || a.status != 200 || !json.Valid([]byte(a.body)) {
					t.Errorf("afterwards: %v %d %s", err, a.status, a.body)
				}
			}
			one := func(kind string, f emulator.Fault, check func(*testing.T, answer, error)) {
				t.Run(kind, func(t *testing.T) {
					f.Service, f.Kind, f.Count = service, kind, 1
					if service == "metadata" && kind == "reset" {
						c.http.CloseIdleConnections() // net/http repeats a GET when an old connection breaks
					}
					if err := c.Inject(f); err != nil {
						t.Fatal(err)
					}
					a, err := call()
					check(t, a, err)
					good(t)
				})
			}
			one("error", emulator.Fault{Status: 503, RetryAfter: 1500 * time.Millisecond, Message: "so sorry"}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 503 || a.header.Get("Retry-After") != "2" || !strings.Contains(a.body, "so sorry") {
					t.Errorf("%v: got %d, Retry-After %q, %s", err, a.status, a.header.Get("Retry-After"), a.body)
				}
				inBody := map[string]string{
					"tracker": `"statusCode":503`, "iam": `"code":14`, "api": `"code":14`,
					"oauth": `"error":"temporarily_unavailable"`, "token_exchange": `"error":"temporarily_unavailable"`,
				}[service]
				if !strings.Contains(a.body, inBody) {
					t.Errorf("%s: not the service's own error", a.body)
				}
			})
			one("status", emulator.Fault{Status: 502, RetryAfter: time.Minute}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 502 || a.header.Get("Retry-After") != "60" || json.Valid([]byte(a.body)) {
					t.Errorf("%v: got %d %s, want a proxy's 502", err, a.status, a.body)
				}
			})
			one("html", emulator.Fault{}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
					t.Errorf("%v: got %d %s", err, a.status, a.body)
				}
			})
			one("redirect", emulator.Fault{}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 302 || c.Calls()[service+"/redirected"] != 0 {
					t.Fatalf("%v: got %d %s", err, a.status, a.body)
				}
				wantStatus(t, c.must("GET", a.header.Get("Location"), ""), 200, "{}")
				if c.Calls()[service+"/redirected"] != 1 {
					t.Error("who follows is not counted")
				}
			})
			one("garbage", emulator.Fault{}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 200 || a.header.Get("Content-Type") != "application/json" || json.Valid([]byte(a.body)) {
					t.Errorf("%v: got %d %q", err, a.status, a.body)
				}
			})
			one("empty", emulator.Fault{}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 200 || a.body != "" {
					t.Errorf("%v: got %d %q", err, a.status, a.body)
				}
			})
			one("reset", emulator.Fault{}, func(t *testing.T, _ answer, err error) {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("got %v, want a reset connection", err)
				}
			})
			one("slow", emulator.Fault{Latency: 30 * time.Millisecond}, func(t *testing.T, a answer, err error) {
				if err != nil || a.status != 200 {
					t.Errorf("%v: got %d %s", err, a.status, a.body)
				}
			})
		})
	}
}

func TestASlowAnswerTakesItsTime(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	value := c.mint().IamToken
	c.inject(emulator.Fault{Service: "tracker", Kind: "slow", Latency: 50 * time.Millisecond})
	c.inject(emulator.Fault{Service: "tracker", Kind: "error", Status: 429, RetryAfter: time.Minute})
	begin := time.Now()
	a := c.myself(value)
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("it took %s, want 50ms", took)
	}
	wantStatus(t, a, http.StatusTooManyRequests, "too many") // both faults apply
}

func TestFaultsOfIAMOverGRPC(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	raw := c.goodClaim().sign(t)
	one := func(f emulator.Fault, check func(*testing.T, *iampb.CreateIamTokenResponse, error)) {
		t.Run(f.Kind+" "+f.Code, func(t *testing.T) {
			f.Service, f.Count = "iam", 1
			c.inject(f)
			out, err := c.create(raw)
			check(t, out, err)
			if _, err := c.create(raw); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
	refused := func(code codes.Code, message string) func(*testing.T, *iampb.CreateIamTokenResponse, error) {
		return func(t *testing.T, _ *iampb.CreateIamTokenResponse, err error) { wantCode(t, err, code, message) }
	}
	one(emulator.Fault{Kind: "error"}, refused(codes.Unavailable, "injected"))
	one(emulator.Fault{Kind: "error", Code: "INTERNAL", Message: "so sorry"}, refused(codes.Internal, "so sorry"))
	one(emulator.Fault{Kind: "error", Status: 403}, refused(codes.PermissionDenied, ""))
	one(emulator.Fault{Kind: "error", Code: "RESOURCE_EXHAUSTED", RetryAfter: 30 * time.Second},
		func(t *testing.T, _ *iampb.CreateIamTokenResponse, err error) {
			wantCode(t, err, codes.ResourceExhausted, "")
			details := status.Convert(err).Details()
			if len(details) != 1 || details[0].(*errdetails.RetryInfo).RetryDelay.AsDuration() != 30*time.Second {
				t.Errorf("details %v, want a RetryInfo of 30s", details)
			}
		})
	one(emulator.Fault{Kind: "status", Status: 503}, refused(codes.Unavailable, "503"))
	one(emulator.Fault{Kind: "status", Status: 403}, refused(codes.PermissionDenied, "403"))
	one(emulator.Fault{Kind: "html"}, refused(codes.Unknown, "content-type"))
	one(emulator.Fault{Kind: "redirect"}, refused(codes.Unknown, "302"))
	one(emulator.Fault{Kind: "reset"}, refused(codes.Unavailable, "reset by peer"))
	one(emulator.Fault{Kind: "slow", Latency: time.Millisecond}, refused(codes.OK, ""))
	one(emulator.Fault{Kind: "empty"}, func(t *testing.T, out *iampb.CreateIamTokenResponse, err error) {
		if err != nil || out.IamToken != "" || out.ExpiresAt != nil {
			t.Errorf("got %v, %v", out, err)
		}
	})
	one(emulator.Fault{Kind: "garbage"}, func(t *testing.T, out *iampb.CreateIamTokenResponse, err error) {
		if err != nil || !strings.HasPrefix(out.IamToken, "rubbish") {
			t.Errorf("got %v, %v", out, err)
		}
	})
	one(emulator.Fault{Kind: "expired"}, func(t *testing.T, out *iampb.CreateIamTokenResponse, err error) {
		if err != nil || out.ExpiresAt.AsTime().After(time.Now()) {
			t.Fatalf("got %v, %v", out, err)
		}
		wantStatus(t, c.myself(out.IamToken), http.StatusUnauthorized, "expired")
	})
	last := c.mint().IamToken
	c.Revoke(last)
	one(emulator.Fault{Kind: "same_token"}, func(t *testing.T, out *iampb.CreateIamTokenResponse, err error) {
		if err != nil || out.IamToken != last {
			t.Errorf("not the last token again (%v)", err)
		}
	})
}

func TestFaultsOfTheEndpointService(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	client := endpoint.NewApiEndpointServiceClient(c.dial(c.Endpoints().API))
	c.inject(emulator.Fault{Service: "api", Kind: "error", Count: 1})
	c.inject(emulator.Fault{Service: "api", Kind: "garbage", Count: 1})
	_, err := client.List(t.Context(), &endpoint.ListApiEndpointsRequest{})
	wantCode(t, err, codes.Unavailable, "")
	out, err := client.List(t.Context(), &endpoint.ListApiEndpointsRequest{})
	if err != nil || !strings.HasPrefix(out.Endpoints[0].Address, "rubbish") {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestExpiredAndSameTokensFromEveryIssuer(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	calls := c.httpCalls()
	for _, service := range []string{"metadata", "token_exchange", "oauth"} {
		c.inject(emulator.Fault{Service: service, Kind: "expired", Count: 1})
		a, err := calls[service]()
		if err != nil || a.status != 200 || a.json(t)["expires_in"] != 0.0 {
			t.Errorf("%s: %v, %d %s", service, err, a.status, a.body)
		}
		first, _ := calls[service]()
		c.inject(emulator.Fault{Service: service, Kind: "same_token", Count: 1})
		again, _ := calls[service]()
		next, _ := calls[service]()
		value := func(a answer) any { return a.json(t)["access_token"] }
		if service != "oauth" && value(again) != value(first) { // for oauth the call itself logs in anew
			t.Errorf("%s: not the same token", service)
		}
		if value(next) == value(again) {
			t.Errorf("%s: the fault does not end", service)
		}
	}
	c.inject(emulator.Fault{Service: "tracker", Kind: "expired", Count: 1})
	wantStatus(t, c.myself(c.mint().IamToken), http.StatusUnauthorized, "expired")
}

func TestAHangingCallEndsWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	log := make(signals, 100)
	c := start(t, emulator.Options{Log: slog.New(log)})
	for _, service := range []string{"iam", "tracker", "token_exchange", "metadata"} {
		c.inject(emulator.Fault{Service: service, Kind: "hang"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	grpcDone := make(chan error)
	go func() {
		_, err := iampb.NewIamTokenServiceClient(c.iam).Create(ctx, &iampb.CreateIamTokenRequest{})
		grpcDone <- err
	}()
	await(t, log, "call hangs")
	cancel()
	wantCode(t, <-grpcDone, codes.Canceled, "")
	await(t, log, "call") // the server noticed

	for _, request := range []struct{ method, url, body string }{
		{"GET", c.Endpoints().Tracker + "/v3/myself", ""},
		{"POST", c.Endpoints().TokenExchange, "a=b"},
		{"GET", c.Endpoints().Metadata + "/computeMetadata/v1/instance/service-accounts/default/token", ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			r, _ := http.NewRequestWithContext(ctx, request.method, request.url, strings.NewReader(request.body))
			resp, err := c.http.Do(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			done <- err
		}()
		await(t, log, "call hangs")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", request.url, err)
		}
		await(t, log, "call")
	}
}

// await reads the log until a message comes.
func await(t *testing.T, log signals, message string) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case m := <-log:
			if m == message {
				return
			}
		case <-timeout:
			t.Fatalf("%q was never logged", message)
		}
	}
}

func TestAHangingCallGoesOnWhenTheFaultEnds(t *testing.T) {
	t.Parallel()
	log := make(signals, 100)
	c := start(t, emulator.Options{Log: slog.New(log)})
	value := c.mint().IamToken
	for name, test := range map[string]struct {
		fault emulator.Fault
		end   func()
	}{
		"cleared":               {emulator.Fault{Kind: "hang"}, c.ClearFaults},
		"counted, then cleared": {emulator.Fault{Kind: "hang", Count: 1}, c.ClearFaults},
		"time over":             {emulator.Fault{Kind: "hang", For: 30 * time.Millisecond}, func() {}},
	} {
		test.fault.Service = "tracker"
		c.inject(test.fault)
		done := make(chan answer)
		go func() {
			a, _ := c.do("GET", c.Endpoints().Tracker+"/v3/myself", "", "Authorization: Bearer "+value, cloudOrg)
			done <- a
		}()
		if test.fault.For == 0 { // else it may be over before the call comes
			await(t, log, "call hangs")
		}
		test.end()
		if a := <-done; a.status != 200 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
}

func TestFaultsEndByCountTimeAndClearing(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	value := c.mint().IamToken
	status := func() int { return c.myself(value).status }

	c.inject(emulator.Fault{Service: "tracker", Kind: "error", Status: 500, Count: 2})
	c.inject(emulator.Fault{Service: "tracker", Kind: "error", Status: 403, Count: 1})
	for i, want := range []int{500, 500, 403, 200} {
		if got := status(); got != want {
			t.Errorf("call %d: got %d, want %d", i+1, got, want)
		}
	}
	c.inject(emulator.Fault{Service: "tracker", Kind: "error", For: time.Nanosecond})
	if got := status(); got != 200 {
		t.Errorf("after its time: %d", got)
	}
	c.inject(emulator.Fault{Service: "tracker", Kind: "error", Status: 503, For: time.Hour})
	c.inject(emulator.Fault{Service: "iam", Method: "Revoke", Kind: "error"})
	if got := status(); got != 503 {
		t.Errorf("within its time: %d", got)
	}
	c.mint() // a fault of another method or service does not matter
	c.ClearFaults()
	if got := status(); got != 200 {
		t.Errorf("after clearing: %d", got)
	}
}

func TestFaultsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	for in, want := range map[string]string{
		`{}`: "service", `{"service":"moon","kind":"error"}`: "service", `{"service":"iam"}`: "kind",
		`{"service":"iam","kind":"boom"}`:                                 "kind",
		`{"service":"tracker","kind":"same_token"}`:                       "same_token",
		`{"service":"api","kind":"same_token"}`:                           "same_token",
		`{"service":"api","kind":"expired"}`:                              "expired",
		`{"service":"iam","kind":"status"}`:                               "status",
		`{"service":"iam","kind":"status","status":99}`:                   "status",
		`{"service":"iam","kind":"hang","status":500}`:                    "status",
		`{"service":"tracker","kind":"error","status":200}`:               "status",
		`{"service":"tracker","kind":"redirect","status":200}`:            "redirect",
		`{"service":"iam","kind":"error","code":"OOPS"}`:                  "UNAVAILABLE",
		`{"service":"iam","kind":"error","code":"OK"}`:                    "UNAVAILABLE",
		`{"service":"tracker","kind":"error","code":"UNAVAILABLE"}`:       "code",
		`{"service":"iam","kind":"hang","code":"UNAVAILABLE"}`:            "code",
		`{"service":"iam","kind":"hang","latency":"1s"}`:                  "latency",
		`{"service":"iam","kind":"late"}`:                                 "late",
		`{"service":"iam","kind":"slow","latency":"-1s"}`:                 "latency",
		`{"service":"iam","kind":"slow","latency":"soon"}`:                "duration",
		`{"service":"iam","kind":"slow","latency":5}`:                     "latency",
		`{"service":"iam","kind":"hang","retry_after":"1s"}`:              "retry_after",
		`{"service":"iam","kind":"error","count":-1}`:                     "count",
		`{"service":"iam","kind":"error","for":"-1s"}`:                    "for",
		`{"service":"iam","kind":"error","method":"myself"}`:              "method",
		`{"service":"iam","kind":"error","colour":"red"}`:                 "colour",
		`{"service":"iam","kind":"error","location":"https://x.invalid"}`: "location",
		`{"service":"iam","kind":"hang","message":"hello"}`:               "message",
		`rubbish`: "body",
	} {
		a := c.must("POST", c.Endpoints().Admin+"/faults", in)
		if a.status != 400 || !strings.Contains(a.json(t)["error"].(string), want) {
			t.Errorf("%s: got %d %s, want 400 with %q", in, a.status, a.body, want)
		}
	}
	if a := c.must("GET", c.Endpoints().Admin+"/faults", ""); strings.TrimSpace(a.body) != "[]" {
		t.Errorf("something was injected: %s", a.body)
	}
}
