package iam

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

// tlsServer is an HTTPS server with what a client needs to trust it.
type tlsServer struct {
	address string
	tls     *tls.Config
}

func httptestTLS(t *testing.T, h http.HandlerFunc) tlsServer {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := s.Client().Transport.(*http.Transport).TLSClientConfig
	cfg.NextProtos = nil
	return tlsServer{s.Listener.Addr().String(), cfg}
}

// httpSources are the sources that speak plain HTTP; they ask h.
func httpSources(t *testing.T, h http.HandlerFunc, clock func() time.Time) map[string]refresher.Source {
	t.Helper()
	plain := httptest.NewServer(h)
	t.Cleanup(plain.Close)
	secure := httptestTLS(t, h)
	c := newCloud(t, Config{
		Endpoints: Endpoints{Metadata: plain.URL, TokenExchange: "https://" + secure.address + "/oauth/token"},
		TLS:       secure.tls, Clock: clock,
	})
	return map[string]refresher.Source{
		"metadata": source(t, c, MetadataOptions{}),
		"workload_identity": source(t, c, WorkloadIdentityOptions{
			ServiceAccountID: testAccount, TokenFile: writeFile(t, subjectToken(time.Now().Add(time.Hour))),
		}),
	}
}

// subjectToken is a JWT that nobody signed.
func subjectToken(exp time.Time) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(`{"sub":"bot","exp":%d}`, exp.Unix())) + ".recognisable"
}

func answers(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestMetadataIsAskedAsDocumentedAndItsSecondsCountFromTheAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 900_000_000, time.UTC)
	var asked *http.Request
	s := httpSources(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r
		answers(200, `{"access_token":"`+secret+`","expires_in":3,"token_type":"Bearer"}`, "Date", now.Format(http.TimeFormat))(w, r)
	}, func() time.Time { return now })["metadata"]
	m, err := s.Mint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if asked.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/token" || asked.Header.Get("Metadata-Flavor") != "Google" ||
		asked.Header.Get("User-Agent") != "iam-token-refresher/dev" {
		t.Errorf("asked for %s with %v", asked.URL, asked.Header)
	}
	if want := now.Truncate(time.Second).Add(3 * time.Second); m.Value.Reveal() != secret || !m.ExpiresAt.Equal(want) {
		t.Errorf("expires at %s, want %s", m.ExpiresAt, want)
	}
	if !strings.HasPrefix(s.Identity(), "metadata at http://127.0.0.1:") {
		t.Errorf("identity %q", s.Identity())
	}
}

func TestLifetimeCountsFromTheServersTimeWhenOurClockIsWrong(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	server := now.Add(time.Hour)
	for kind, s := range httpSources(t, answers(200, `{"access_token":"`+secret+`","expires_in":600}`, "Date", server.Format(http.TimeFormat)), func() time.Time { return now }) {
		m, err := s.Mint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := server.Add(10 * time.Minute); !m.ExpiresAt.Equal(want) || !m.ServerTime.Equal(server) {
			t.Errorf("%s: expires at %s as of %s, want %s", kind, m.ExpiresAt, m.ServerTime, want)
		}
	}
}

func TestTheDateOfACachesAnswerSetsNoClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	stored := answers(200, `{"access_token":"`+secret+`","expires_in":600}`, "Date", now.Add(-time.Hour).Format(http.TimeFormat), "Age", "3600")
	for kind, s := range httpSources(t, stored, func() time.Time { return now }) {
		m, err := s.Mint(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if want := now.Add(10 * time.Minute); !m.ExpiresAt.Equal(want) || !m.ServerTime.IsZero() {
			t.Errorf("%s: expires at %s as of %s, want %s", kind, m.ExpiresAt, m.ServerTime, want)
		}
	}
}

func TestMetadataNeverGoesThroughAProxy(t *testing.T) {
	t.Parallel()
	c := newCloud(t, Config{})
	if c.metadata.Transport.(*http.Transport).Proxy != nil {
		t.Error("there is a proxy function")
	}
}

func TestMetadataAddressOfTheEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("YC_METADATA_ADDR", "127.0.0.1:8775")
	s := source(t, newCloud(t, Config{}), MetadataOptions{})
	if want := "metadata at http://169.254.169.254"; s.Identity() != want {
		t.Errorf("identity %q, want %q: the daemon would ask itself", s.Identity(), want)
	}
}

func TestUnusableHTTPAnswersAreErrorsThatSayWhy(t *testing.T) {
	t.Parallel()
	both := []string{"metadata", "workload_identity"}
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		kinds     []string
		permanent bool
		want      []string
	}{
		"no service account on the machine": {answers(404, secret), both[:1], true, []string{"404", "no service account is attached", "yc compute instance update --service-account-id"}},
		"metadata says forbidden":           {answers(403, secret), both[:1], true, []string{"403", "gce-http-token"}},
		"invalid_grant":                     {answers(400, `{"error":"invalid_grant","error_description":"bad subject token `+secret+`"}`), both[1:], true, []string{"400", `"invalid_grant"`, "bad subject token", "federated credentials", testAccount}},
		"an error that is not ours to fix":  {answers(503, `{"error":"temporarily_unavailable"}`), both[1:], false, []string{"503", "temporarily_unavailable"}},
		"an error without JSON":             {answers(400, secret), both, false, []string{"400 Bad Request", "not JSON"}},
		"500":                               {answers(500, secret), both, false, []string{"500 Internal Server Error"}},
		"HTML with 200":                     {answers(200, "<html>"+secret), both, false, []string{"HTML", "another program may answer"}},
		"a redirect":                        {answers(302, secret, "Location", "https://127.0.0.1:1/"+secret), both, false, []string{"redirect (302 Found)", "not followed"}},
		"a body without end":                {answers(200, strings.Repeat(" ", maxAnswer+1)), both, false, []string{"more than 65536 bytes"}},
		"half a body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			_, _ = w.Write([]byte(`{"access_token":"` + secret))
		}, both, false, []string{"closed before the answer was complete"}},
		"a reset": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}, both[:1], false, []string{"closed before the answer was complete", "if this lasts", "check endpoints.metadata"}},
		"metadata is away":  {answers(503, ""), both[:1], false, []string{"503", "it is asked again; if this lasts", "check endpoints.metadata"}},
		"no access_token":   {answers(200, `{"token":"`+secret+`"}`), both, false, []string{`no "access_token"`}},
		"no expires_in":     {answers(200, `{"access_token":"`+secret+`"}`), both, false, []string{`no "expires_in"`}},
		"expired":           {answers(200, `{"access_token":"`+secret+`","expires_in":0}`), both, false, []string{"has expired (expires_in is 0)", "if this lasts"}},
		"expired long ago":  {answers(200, `{"access_token":"`+secret+`","expires_in":-60}`), both, false, []string{"has expired (expires_in is -60)"}},
		"expires never":     {answers(200, `{"access_token":"`+secret+`","expires_in":9223372036854775807}`), both, false, []string{"cannot be"}},
		"expires_in a word": {answers(200, `{"access_token":"`+secret+`","expires_in":"soon"}`), both, false, []string{`"expires_in" has the wrong type`}},
		"token in two":      {answers(200, `{"access_token":"`+secret+`\n`+secret+`","expires_in":60}`), both, false, []string{"2 lines"}},
		"not HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte(secret + "\r\n\r\n"))
				_ = conn.Close()
			}
		}, both[:1], false, []string{"no usable HTTP answer", "check endpoints.metadata"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sources := httpSources(t, c.answer, nil)
			for _, kind := range c.kinds {
				got := failure(t, sources[kind])
				wantText(t, got, c.want...)
				if kind == "metadata" && (strings.Contains(got.Error(), "HTTPS_PROXY") || strings.Contains(got.Error(), "whether a proxy")) {
					t.Errorf("no proxy is used, and it says %v", got)
				}
				if got.Permanent != c.permanent {
					t.Errorf("%s: permanent = %v", kind, got.Permanent)
				}
			}
		})
	}
}

func TestRetryAfterIsHandedOnInBothForms(t *testing.T) {
	t.Parallel()
	date := time.Now().UTC().Truncate(time.Second)
	for name, c := range map[string]struct {
		header string
		want   time.Duration
	}{
		"seconds":          {"120", 2 * time.Minute},
		"a date":           {date.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		"a date gone by":   {date.Add(-time.Hour).Format(http.TimeFormat), 0},
		"a negative value": {"-5", 0},
		"words":            {"later", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Our clock is off: the date counts from the server's.
			clock := func() time.Time { return date.Add(-time.Hour) }
			for kind, s := range httpSources(t, answers(429, "{}", "Retry-After", c.header, "Date", date.Format(http.TimeFormat)), clock) {
				got := failure(t, s)
				if got.RetryAfter != c.want || !got.ServerTime.Equal(date) {
					t.Errorf("%s: retry after %s as of %s, want %s as of %s", kind, got.RetryAfter, got.ServerTime, c.want, date)
				}
				wantText(t, got, "too many requests (429)")
			}
		})
	}
}

func TestMetadataThatNobodyServesAsksWhereWeAre(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	_ = l.Close()
	got := failure(t, source(t, newCloud(t, Config{Endpoints: Endpoints{Metadata: address}}), MetadataOptions{}))
	wantText(t, got, address, "connection refused", "is this a virtual machine of Yandex Cloud")
}

func TestMetadataThatIsSilentAsksWhereWeAre(t *testing.T) {
	t.Parallel()
	silent := httpSources(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}, nil)["metadata"]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := silent.Mint(ctx)
	if err == nil || !strings.Contains(err.Error(), "no answer from") || !strings.Contains(err.Error(), "is this a virtual machine") {
		t.Errorf("it says %v", err)
	}
}

func TestHTTPMintsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 2)
	sources := httpSources(t, func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // read it, so that the server notices when the client goes
		arrived <- struct{}{}
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // an answer may reach who is leaving
	}, nil)
	for kind, s := range sources {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		if _, err := s.Mint(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", kind, err)
		}
		cancel()
	}
}

func TestWorkloadTokenIsReadAfreshAndSentAsDocumented(t *testing.T) {
	t.Parallel()
	var form []string
	server := httptestTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.Path != "/oauth/token" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		form = append(form, r.PostForm.Encode())
		answers(200, `{"access_token":"`+secret+`","token_type":"Bearer","expires_in":43200}`)(w, r)
	})
	c := newCloud(t, Config{Endpoints: Endpoints{TokenExchange: "https://" + server.address + "/oauth/token"}, TLS: server.tls})

	// The kubelet's way: the file is a link into a directory that is swapped.
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "token"), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(target string) {
		_ = os.Remove(filepath.Join(dir, "..data"))
		if err := os.Symlink(target, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("one")
	path := filepath.Join(dir, "token")
	if err := os.Symlink("..data/token", path); err != nil {
		t.Fatal(err)
	}
	s := source(t, c, WorkloadIdentityOptions{ServiceAccountID: testAccount, TokenFile: path})
	for _, name := range []string{"one", "two"} {
		swap(name)
		began := time.Now()
		m, err := s.Mint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantLeft(t, m, began, 43200*time.Second)
	}
	for i, name := range []string{"one", "two"} {
		want := "audience=" + testAccount + "&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange" +
			"&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&subject_token=" + name +
			"&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token"
		if form[i] != want {
			t.Errorf("sent %s\nwant %s", form[i], want)
		}
	}
	if want := "workload_identity of " + testAccount + " at https://" + server.address + "/oauth/token"; s.Identity() != want {
		t.Errorf("identity %q", s.Identity())
	}
}

func TestExpiredWorkloadTokenIsNamedWhenItIsRefused(t *testing.T) {
	t.Parallel()
	server := httptestTLS(t, answers(400, `{"error":"invalid_grant"}`))
	c := newCloud(t, Config{Endpoints: Endpoints{TokenExchange: "https://" + server.address}, TLS: server.tls})
	path := writeFile(t, subjectToken(time.Now().Add(-3*time.Hour)))
	got := failure(t, source(t, c, WorkloadIdentityOptions{ServiceAccountID: testAccount, TokenFile: path}))
	wantText(t, got, "the workload token expired 3 h ago", path)
	if got.Permanent {
		t.Error("permanent: the next mint reads the file again")
	}
}

func TestUnusableWorkloadTokenIsNotSent(t *testing.T) {
	t.Parallel()
	server := httptestTLS(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	c := newCloud(t, Config{Endpoints: Endpoints{TokenExchange: "https://" + server.address}, TLS: server.tls})
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "absent"):               "does not exist",
		writeFile(t, ""):                                   "is empty",
		writeFile(t, "\n"):                                 "is empty",
		writeFile(t, secret+"\n"+secret):                   "2 lines",
		writeFile(t, strings.Repeat("a", maxValue+1)):      "a token has at most",
		writeFile(t, strings.Repeat("a", maxFile+1)):       "is it the right file?",
		writeFile(t, "{\"token\": \""+secret+"\", \"a\"}"): "a blank",
	} {
		got := failure(t, source(t, c, WorkloadIdentityOptions{ServiceAccountID: testAccount, TokenFile: path}))
		wantText(t, got, path, want)
	}
}

func TestExpiryOfAnythingButAJWTIsUnknown(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "a.b", "a.b.c", "a.!!.c", "a.bnVsbA.c", subjectToken(time.Unix(0, 0)), secret} {
		if got := jwtExpiry(token); !got.IsZero() {
			t.Errorf("%s", got)
		}
	}
}
