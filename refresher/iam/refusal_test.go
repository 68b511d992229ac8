package iam

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"iam-token-refresher/refresher"
)

func TestKeySourceMintsWithTheTimesOfTheServer(t *testing.T) {
	t.Parallel()
	serverTime := time.Now().Add(time.Minute).Truncate(time.Second)
	f := &fakeIAM{create: gives(secret+"\n", time.Hour), now: func() time.Time { return serverTime }}
	s := keySourceOf(t, f.start(t))
	m, err := s.Mint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Value != refresher.NewValue(secret) || m.Type != refresher.TypeIAM {
		t.Errorf("a value of %d bytes and type %q", m.Value.Len(), m.Type)
	}
	if left := time.Until(m.ExpiresAt); left < 59*time.Minute || left > time.Hour {
		t.Errorf("expires in %s", left)
	}
	if !m.ServerTime.Equal(serverTime) {
		t.Errorf("server time %s, want %s", m.ServerTime, serverTime)
	}
	if want := "service_account_key of " + testAccount + " at " + f.address; s.Identity() != want {
		t.Errorf("identity %q, want %q", s.Identity(), want)
	}
}

func TestAnswerThatIsNoTokenIsAnError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		value    string
		lifetime time.Duration
		want     string
	}{
		"empty":               {"", time.Hour, "is empty"},
		"expired":             {secret, -3 * time.Hour, "expired 3 h ago"},
		"two lines":           {secret + "\n" + secret, time.Hour, "has 2 lines"},
		"blank inside":        {secret + " " + secret, time.Hour, "a blank, a control character"},
		"control character":   {secret + "\x7f", time.Hour, "a blank, a control character"},
		"beyond ASCII":        {secret + "ы", time.Hour, "beyond ASCII"},
		"longer than a token": {strings.Repeat(secret, 200), time.Hour, "a token has at most 16384"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeIAM{create: gives(c.value, c.lifetime)}
			err := failure(t, keySourceOf(t, f.start(t)))
			wantText(t, err, "create IAM token at "+f.address+" with key "+testKeyID, c.want)
		})
	}
	t.Run("without an expiry", func(t *testing.T) {
		t.Parallel()
		f := &fakeIAM{create: func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
			return &iampb.CreateIamTokenResponse{IamToken: secret}, nil
		}}
		wantText(t, failure(t, keySourceOf(t, f.start(t))), "does not say when the token expires")
	})
	t.Run("any format of tomorrow is a token", func(t *testing.T) {
		t.Parallel()
		f := &fakeIAM{create: gives("T2~{\"even\":'this'}", time.Hour)}
		if _, err := keySourceOf(t, f.start(t)).Mint(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("expiry is judged by the server's clock where it is known", func(t *testing.T) {
		t.Parallel()
		f := &fakeIAM{create: gives(secret, -time.Minute), now: func() time.Time { return time.Now().Add(-time.Hour) }}
		if _, err := keySourceOf(t, f.start(t)).Mint(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRefusalSaysWhatWasAskedOfWhomAndWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code      codes.Code
		permanent bool
		want      []string
	}{
		{codes.Unauthenticated, true, []string{"UNAUTHENTICATED", "make a new one with yc iam key create"}},
		{codes.PermissionDenied, true, []string{"PERMISSION_DENIED", "was deleted or blocked", testAccount}},
		{codes.NotFound, true, []string{"NOT_FOUND", "was deleted or blocked"}},
		{codes.InvalidArgument, true, []string{"INVALID_ARGUMENT", "check the key file"}},
		{codes.ResourceExhausted, false, []string{"RESOURCE_EXHAUSTED"}},
		{codes.Internal, false, []string{"INTERNAL"}},
		{codes.Unavailable, false, []string{"UNAVAILABLE"}},
		{codes.DeadlineExceeded, false, []string{"DEADLINE_EXCEEDED"}},
	} {
		t.Run(c.code.String(), func(t *testing.T) {
			t.Parallel()
			said := "no: " + strings.Repeat("ж", 50) + " jwt eyJhbGciOi.eyJpc3Mi.c2ln and " + secret + strings.Repeat(" and so on", 100)
			f := &fakeIAM{create: refuses(status.Error(c.code, said))}
			got := failure(t, keySourceOf(t, f.start(t)))
			wantText(t, got, append(c.want, "create IAM token at "+f.address+" with key "+testKeyID, "no: ")...)
			if got.Permanent != c.permanent {
				t.Errorf("permanent = %v", got.Permanent)
			}
		})
	}
}

func TestRetryInfoOfTheServiceIsHandedOn(t *testing.T) {
	t.Parallel()
	st, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(
		&errdetails.ErrorInfo{Reason: "QUOTA"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(17 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	serverTime := time.Now().Truncate(time.Second)
	f := &fakeIAM{create: refuses(st.Err()), now: func() time.Time { return serverTime }}
	got := failure(t, keySourceOf(t, f.start(t)))
	if got.RetryAfter != 17*time.Second {
		t.Errorf("retry after %s", got.RetryAfter)
	}
	if !got.ServerTime.Equal(serverTime) {
		t.Errorf("server time %s", got.ServerTime)
	}
}

func TestWrongClockIsTheReasonGivenForAnInvalidSignature(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		server    time.Duration // minus ours
		want      string
		permanent bool
	}{
		{-7 * time.Minute, "your clock is 7 min ahead of Yandex", false},
		{-31 * time.Second, "your clock is 31 s ahead of Yandex", false},
		{3 * time.Hour, "your clock is 3 h behind Yandex", false},
		{20 * time.Second, "make a new one", true},
	} {
		for _, inHeaders := range []bool{true, false} {
			t.Run(fmt.Sprintf("server %s, Date with the refusal: %v", c.server, inHeaders), func(t *testing.T) {
				t.Parallel()
				clock := time.Now().Truncate(time.Second)
				date := clock.Add(c.server)
				f := &fakeIAM{create: refuses(status.Error(codes.Unauthenticated, "JWT is invalid"))}
				if inHeaders {
					f.now = func() time.Time { return date }
				} else {
					f.plain = func(w http.ResponseWriter, r *http.Request) {
						if r.Method != http.MethodGet || r.URL.Path != "/" || r.Header.Get("Authorization") != "" {
							t.Errorf("asked for the time with %s %s", r.Method, r.URL)
						}
						w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
						http.Redirect(w, r, "https://127.0.0.1:1/elsewhere", http.StatusFound)
					}
				}
				cloud := f.start(t, func(cfg *Config) { cfg.Clock = func() time.Time { return clock } })
				got := failure(t, keySourceOf(t, cloud))
				wantText(t, got, "UNAUTHENTICATED", c.want)
				if got.Permanent != c.permanent || !got.ServerTime.Equal(date) {
					t.Errorf("permanent = %v, server time %s, want %v, %s", got.Permanent, got.ServerTime, c.permanent, date)
				}
			})
		}
	}
	t.Run("and is mentioned when nobody tells the time", func(t *testing.T) {
		t.Parallel()
		f := &fakeIAM{create: refuses(status.Error(codes.Unauthenticated, "JWT is invalid"))}
		got := failure(t, keySourceOf(t, f.start(t)))
		wantText(t, got, "make a new one", "or this machine's clock is wrong")
	})
}

func TestUnreachableEndpointFailsFastAndNamesTheAddress(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c := newCloud(t, Config{Endpoints: Endpoints{IAM: address}})
	start := time.Now()
	got := failure(t, keySourceOf(t, c))
	wantText(t, got, address, "UNAVAILABLE", "connection refused", "check the network")
	if got.Permanent {
		t.Error("an outage is called permanent")
	}
	if took := time.Since(start); took > 15*time.Second { // a mint has 30 s
		t.Errorf("it took %s", took)
	}
}

func TestEachMintIsAnAttemptOfItsOwnAfterAnOutage(t *testing.T) {
	t.Parallel()
	f := &fakeIAM{create: gives(secret, time.Hour)}
	c := f.start(t)
	// Nobody listens where the Cloud looks at first.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c.iam.address = address
	s := keySourceOf(t, c)
	failure(t, s)
	failure(t, s)
	c.iam.mu.Lock()
	if c.iam.current != nil {
		t.Error("a channel that cannot connect is kept, and goes on trying in the background")
	}
	c.iam.address = f.address // it is back
	c.iam.mu.Unlock()
	if _, err := s.Mint(t.Context()); err != nil {
		t.Errorf("the first mint after the outage failed: %v", err)
	}
}

func TestUntrustedCertificateSaysWhatToDo(t *testing.T) {
	t.Parallel()
	f := &fakeIAM{create: gives(secret, time.Hour)}
	c := f.start(t, func(cfg *Config) { cfg.TLS = nil })
	wantText(t, failure(t, keySourceOf(t, c)), f.address, "certificate", "ca_file")
}

func TestAnswerOfSomethingElseIsNotTakenForIAMs(t *testing.T) {
	t.Parallel()
	f := &fakeIAM{}
	c := f.start(t)
	other := httptestTLS(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<html>recognisable body" + secret))
	})
	c.iam.address, c.iam.tls = other.address, other.tls
	got := failure(t, keySourceOf(t, c))
	wantText(t, got, "not IAM's but 403 Forbidden of something else", "HTTPS_PROXY")
	if got.Permanent {
		t.Error("a proxy's 403 is called permanent")
	}
}

func TestMintEndsWithItsContext(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	f := &fakeIAM{create: func(*iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
		close(arrived)
		<-release
		return nil, status.Error(codes.Internal, "too late")
	}}
	s := keySourceOf(t, f.start(t))
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := s.Mint(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	wantText(t, err, "given up", f.address)

	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err = s.Mint(past)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	wantText(t, err, "no answer from "+f.address+" in time")
}

func TestMintAfterCloseFails(t *testing.T) {
	t.Parallel()
	f := &fakeIAM{create: gives(secret, time.Hour)}
	c := f.start(t)
	s := keySourceOf(t, c)
	if _, err := s.Mint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantText(t, failure(t, s), "closed by our own shutdown")
}

func TestOAuthTokenIsExchanged(t *testing.T) {
	t.Parallel()
	const oauth = "y0_AgAAAABrecognisableAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	f := &fakeIAM{create: func(r *iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
		if r.GetYandexPassportOauthToken() != oauth {
			return nil, status.Error(codes.Unauthenticated, "OAuth token "+r.GetYandexPassportOauthToken()+" is invalid")
		}
		return gives(secret, time.Hour)(r)
	}}
	c := f.start(t)
	path := writeFile(t, oauth+"\n")
	s := source(t, c, OAuthTokenOptions{File: path})
	if _, err := s.Mint(t.Context()); err != nil {
		t.Error(err)
	}
	bad := writeFile(t, strings.Replace(oauth, "AAAA", "BBBB", 1))
	got := failure(t, source(t, c, OAuthTokenOptions{File: bad}))
	wantText(t, got, "UNAUTHENTICATED", bad, "get a new one")
	if want := "oauth_token in " + path + " at " + f.address; s.Identity() != want {
		t.Errorf("identity %q", s.Identity())
	}
	for content, want := range map[string]string{"": "is empty", "\n": "is empty", "two words": "a blank", secret + "\n" + secret: "2 lines"} {
		_, err := OAuthTokenOptions{File: writeFile(t, content)}.New(c)
		if err == nil {
			t.Fatalf("%q accepted", content)
		}
		wantText(t, err, want)
		checkText(t, err.Error())
	}
}
