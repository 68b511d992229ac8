package sink

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/turns"
)

// api is what a proxy forwards to in these tests.
type api struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func newAPI(t *testing.T, h http.HandlerFunc) *api {
	t.Helper()
	a := &api{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen = append(a.seen, r.Clone(context.WithoutCancel(r.Context())))
		a.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

func (a *api) upstream(t *testing.T) Upstream {
	t.Helper()
	u, err := url.Parse(a.URL)
	must(t, err)
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return Upstream{URL: u, Header: map[string]string{"X-Cloud-Org-ID": "org"}, Reserved: []string{"X-Org-ID"}, Transport: tr}
}

// newProxy makes a listening proxy of the token bot, on a socket unless o says
// otherwise, and its client.
func newProxy(t *testing.T, d *daemon, up Upstream, o ProxyServerOptions) (*ProxyServer, *Endpoint, *http.Client) {
	t.Helper()
	if o.Proxy.Listen == "" {
		o.Proxy = ProxyOptions{Listen: socketPath(t), Mode: 0o666, Allow: o.Proxy.Allow}
	}
	o.Live, o.Accounts = d.live(), accounts()
	p, err := NewProxyServer(o)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(context.Background())) })
	e, err := p.For("bot", o.Proxy.Allow, accounts(), up)
	must(t, err)
	must(t, e.Check(t.Context()))
	p.Update(e)
	must(t, p.Listen())
	must(t, e.Check(t.Context()))
	c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	if !o.Proxy.TCP() {
		c = client(t, p.Path())
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(c.CloseIdleConnections)
	return p, e, c
}

// begin sends a request and does not wait for its answer.
func begin(t *testing.T, c *http.Client, method, url string, headers ...string) <-chan answer {
	t.Helper()
	got := make(chan answer, 1)
	go func() {
		a, err := try(t.Context(), c, method, url, headers...)
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	return got
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }

func TestTheProxySpeaksForTheTokenWhateverItsClientsSend(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "session=1")
		w.Header().Set("Link", fmt.Sprintf(`<http://%s/v3/issues?page=2>; rel="next"`, r.Host))
		w.Header().Set("Location", "https://elsewhere.example/x")
		w.Header().Set("X-Total-Count", "7")
		ok(w, r)
	})
	_, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	got := ask(t, c, http.MethodGet, "/v3/issues/A%2FB/x?q=a;b&c=%zz&d=1",
		"Authorization", "Bearer mine", "Cookie", "a=b", "X-Org-ID", "1", "X-Cloud-Org-ID", "not provided", "X_Org_ID", "2",
		"X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1", "Proxy-Authorization", "Basic x",
		"Connection", "Upgrade, X-Mine", "Upgrade", "websocket", "X-Mine", "y", "Accept-Language", "ru", "User-Agent", "client/1")
	wantAnswer(t, got, 200, "fine")
	r := a.requests()[0]
	if r.URL.RequestURI() != "/v3/issues/A%2FB/x?q=a;b&c=%zz&d=1" {
		t.Errorf("it asked for %s", r.URL.RequestURI())
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer " + version("bot", 1).Value.Reveal(), "X-Cloud-Org-Id": "org",
		"Cookie": "", "X-Org-Id": "", "X_org_id": "", "X-Forwarded-For": "", "Forwarded": "", "Proxy-Authorization": "",
		"Upgrade": "", "X-Mine": "", "Accept-Encoding": "gzip", "Accept-Language": "ru", "User-Agent": "client/1",
	} {
		if values := r.Header[name]; strings.Join(values, "|") != want {
			t.Errorf("%s: %d values, not the one expected", name, len(values))
		}
	}
	if r.Host != strings.TrimPrefix(a.URL, "http://") {
		t.Errorf("host %s", r.Host)
	}
	for name, want := range map[string]string{
		"Set-Cookie": "", "X-Total-Count": "7", "Link": `<http://localhost/v3/issues?page=2>; rel="next"`, "Location": "https://elsewhere.example/x",
	} {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	oauth := version("bot", 2)
	oauth.Type = refresher.TypeOAuth
	d.publish(t, oauth, e)
	ask(t, c, http.MethodHead, "/v3/myself")
	if got := a.requests()[1].Header.Get("Authorization"); got != "OAuth "+oauth.Value.Reveal() {
		t.Error("an OAuth token is not sent as one")
	}
	if reads := e.Reads(); reads["ok"] != 2 || len(reads) != 5 {
		t.Errorf("counted %v", reads)
	}
}

func TestTheProxyGoesToOneAPIAndServesNoBrowser(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, ok)
	_, e, _ := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	p, _, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{Proxy: ProxyOptions{Listen: "127.0.0.1:0"}})
	d.publish(t, version("bot", 1), e)
	addr := p.Addr().String()
	raw := func(request string) string {
		n, err := net.Dial("tcp", addr)
		must(t, err)
		defer n.Close()
		_, err = io.WriteString(n, request+"\r\n\r\n")
		must(t, err)
		line, err := bufio.NewReader(n).ReadString('\n')
		must(t, err)
		return line
	}
	for request, want := range map[string]string{
		"GET http://" + addr + "/v3/myself HTTP/1.1\r\nHost: " + addr:      "400",
		"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example":          "403",
		"GET http://evil.example/ HTTP/1.1\r\nHost: localhost":             "403", // the target's host counts
		"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443":            "405",
		"TRACE /v3/myself HTTP/1.1\r\nHost: localhost":                     "405",
		"OPTIONS * HTTP/1.1\r\nHost: localhost":                            "400",
		"OPTIONS * HTTP/1.1\r\nHost: evil.example":                         "403",
		"GET /v3/myself HTTP/1.1\r\nHost: evil.example":                    "403",
		"GET /v3/myself HTTP/1.1\r\nHost: localhost.evil.example":          "403",
		"GET /v3/myself HTTP/1.0\r\nHost: " + addr:                         "200",
		"GET //evil.example/ HTTP/1.1\r\nHost: localhost":                  "200", // a path like any other
		"GET /v3/myself HTTP/1.1\r\nHost: [::1]:1\r\nSec-Fetch-Site: none": "200",
	} {
		if got := raw(request); !strings.Contains(got, " "+want+" ") {
			t.Errorf("%q: %q, want %s", request, got, want)
		}
	}
	for name, value := range map[string]string{"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site", "X-Forwarded-For": "10.0.0.1"} {
		got := ask(t, c, http.MethodPost, "http://"+addr+"/v3/issues", name, value, "body", "{}")
		wantAnswer(t, got, 403, "not from a browser")
		var doc struct {
			Messages []string `json:"errorMessages"`
			Status   int      `json:"statusCode"`
		}
		if json.Unmarshal([]byte(got.body), &doc) != nil || doc.Status != 403 || len(doc.Messages) != 1 {
			t.Errorf("not as Tracker says it: %s", got.body)
		}
	}
	for _, r := range a.requests() {
		if "http://"+r.Host != a.URL {
			t.Errorf("%s was asked", r.Host)
		}
	}
}

// Behind a gateway that trusts them these headers say who somebody is.
func TestNoForwardedHeaderOfAClientReachesTheAPI(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, ok)
	_, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	var headers []string
	for _, name := range []string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-User", "X-Forwarded-Port", "X-Forwarded-Ssl",
		"x-forwarded-proto", "X_Forwarded_For", "X_Forwarded-User", "x_forwarded_groups",
	} {
		headers = append(headers, name, "x")
	}
	wantAnswer(t, ask(t, c, http.MethodGet, "/v3/myself", append(headers, "X-Forward", "fine")...), 200, "fine")
	got := a.requests()[0].Header
	for name := range got {
		if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "x-forwarded-") {
			t.Errorf("%s was passed on", name)
		}
	}
	if got.Get("X-Forward") != "fine" {
		t.Error("a header that is like them was dropped")
	}
}

func TestAPathStaysBelowTheAPIsAddress(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, ok)
	up := a.upstream(t)
	up.URL.Path = "/base/api"
	p, e, _ := newProxy(t, d, up, ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	for path, code := range map[string]int{
		"/../../other": 400, "/v3/..": 400, "/v3/./myself": 400, "/%2e%2e/%2E%2E/other": 400, "/.%2e/other": 400,
		"/..%2f..%2fother": 400, "/..%5c..%5cother": 400, "/..;x/other": 400, "/%2e%2e%3bx/other": 400,
		"/v3/...": 200, "/v3/a..b/.hidden/c.": 200, "/v3/x;..": 200, "/v3/search?q=/../x": 200,
	} {
		n := dialSocket(t, p.Path())
		_, err := io.WriteString(n, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		must(t, err)
		wantAnswers(t, bufio.NewReader(n), 1, code)
	}
	for _, r := range a.requests() {
		if !strings.HasPrefix(r.URL.Path, "/base/api/") || strings.Contains(r.URL.Path, "other") {
			t.Errorf("%s was asked for", r.URL.Path)
		}
	}
}

// refusing answers 401 to the first n versions.
func refusing(n uint64, then http.HandlerFunc) http.HandlerFunc {
	bad := map[string]bool{}
	for i := range n {
		bad["Bearer "+version("bot", i+1).Value.Reveal()] = true
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if bad[r.Header.Get("Authorization")] {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":{},"errorMessages":["revoked"],"statusCode":401}`)
			return
		}
		then(w, r)
	}
}

func TestAClientWithoutABodySeesNothingOfARevocation(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, refusing(2, ok)) // the second value is bad, too
	_, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	var replaced sync.WaitGroup
	defer replaced.Wait()
	d.witness = func(st refresher.Status) {
		d.set(func() { st.Witnessed = true; d.status["bot"] = st })
		replaced.Go(func() { d.publish(t, version("bot", st.Version.N+1)) })
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		wantAnswer(t, ask(t, c, method, "/v3/issues/A-1"), 200, "fine")
	}
	if want := []string{"bot abc-1", "bot abc-2"}; strings.Join(d.witnessed, ",") != strings.Join(want, ",") {
		t.Errorf("it said %v", d.witnessed)
	}
	if reads := e.Reads(); reads["ok"] != 2 || reads["refused"] != 0 {
		t.Errorf("counted %v", reads)
	}
}

func TestARequestWithABodyGetsThe401Once(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, refusing(1, ok))
	_, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	d.witness = func(st refresher.Status) {
		d.set(func() { st.Witnessed = true; d.status["bot"] = st })
	}
	wantAnswer(t, ask(t, c, http.MethodPost, "/v3/issues", "body", "{}"), 401, "revoked")
	d.awaited = make(chan struct{})
	second := begin(t, c, http.MethodPost, "/v3/issues", "body", "{}")
	<-d.awaited
	d.publish(t, version("bot", 2), e)
	wantAnswer(t, <-second, 200, "fine")
	if n := len(a.requests()); n != 2 {
		t.Errorf("%d requests reached the API", n)
	}
}

func TestA401ThatIsNotAboutTheTokenIsPassedOnAtOnce(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, refusing(1, ok))
	_, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	e.forward.wait, c.Timeout = time.Minute, 10*time.Second
	wantAnswer(t, ask(t, c, http.MethodGet, "/v3/issues"), 401, "revoked")
	if len(d.witnessed) != 1 || len(a.requests()) != 1 || e.Reads()["refused"] != 1 {
		t.Errorf("witnessed %v, %d requests, counted %v", d.witnessed, len(a.requests()), e.Reads())
	}
}

func TestWithoutAValueTheProxyWaitsAndThenSaysWhy(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, ok)
	_, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	e.forward.wait = 50 * time.Millisecond
	revoked := version("bot", 1)
	for name, st := range map[string]refresher.Status{
		"there is no value yet":                                        {Health: refresher.Pending},
		"the value was revoked and there is no other":                  {Version: &revoked, Health: refresher.Revoked},
		"the value has expired and there is no other":                  {Version: &revoked, Health: refresher.Expired},
		"the value has expired and there is no other yet: IAM is away": {Version: &revoked, Health: refresher.Expired, LastFailure: "IAM is away"},
	} {
		d.set(func() { d.status["bot"] = st })
		got := ask(t, c, http.MethodGet, "/v3/myself")
		wantAnswer(t, got, 503, name)
		if got.header.Get("Retry-After") == "" || !strings.Contains(got.body, `"statusCode":503`) {
			t.Errorf("%s: %v %s", name, got.header, got.body)
		}
	}
	if len(a.requests()) > 0 || e.Reads()["unavailable"] != 4 {
		t.Errorf("%d requests, counted %v", len(a.requests()), e.Reads())
	}
	e.forward.wait = time.Minute
	got := begin(t, c, http.MethodPost, "/v3/issues", "body", "{}")
	d.publish(t, version("bot", 2), e)
	wantAnswer(t, <-got, 200, "fine")
}

func TestWhoWaitsForAValueIsAnsweredWhenTheListenerCloses(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	d.awaited = make(chan struct{})
	p, e, c := newProxy(t, d, newAPI(t, ok).upstream(t), ProxyServerOptions{})
	e.forward.wait = time.Minute
	got := begin(t, c, http.MethodGet, "/v3/myself")
	<-d.awaited
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, p.Close(ctx))
	wantAnswer(t, <-got, 503, "there is no value yet")
}

func TestAClientThatLeavesEndsItsRequest(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	began, ended := make(chan struct{}), make(chan struct{})
	a := newAPI(t, func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		ended <- struct{}{}
	})
	var log logs
	p, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{Log: log.logger()})
	d.publish(t, version("bot", 1), e)
	never, hold := io.Pipe()
	for name, body := range map[string]io.Reader{"a download": nil, "an upload": never} {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v3/issues", body)
		must(t, err)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if resp, err := c.Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("%s is answered with %d", name, resp.StatusCode)
			}
		}()
		<-began
		cancel()
		if body != nil {
			_ = hold.CloseWithError(context.Canceled)
		}
		<-ended
		<-gone
	}
	wrong, err := net.Dial("unix", p.Path())
	must(t, err)
	defer wrong.Close()
	_, err = io.WriteString(wrong, "POST /v3/issues HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\nnonsense\r\n")
	must(t, err)
	<-began
	<-ended
	if rest, err := io.ReadAll(wrong); err != nil || len(rest) > 0 {
		t.Errorf("one whose body is nonsense gets %q, %v", rest, err)
	}
	if reads := e.Reads(); reads["failed"] != 0 || strings.Contains(log.String(), "WARN") {
		t.Errorf("counted %v, logged %s", reads, log.String())
	}
}

func TestBothDirectionsFlowAtOnce(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		stream := http.NewResponseController(w)
		_ = stream.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = stream.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			if n > 0 {
				_, _ = w.Write(b[:n])
				_ = stream.Flush()
			}
			if err != nil {
				return
			}
		}
	})
	p, e, c := newProxy(t, d, a.upstream(t), ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	read, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v3/echo", read)
	must(t, err)
	resp, err := c.Do(req)
	must(t, err)
	defer resp.Body.Close()
	for i := range 5 {
		want := fmt.Sprintf("data: %d\n\n", i)
		_, err := io.WriteString(write, want)
		must(t, err)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
		if i == 2 { // requests under way go on when what they were for is replaced
			other, err := p.For("bot", nil, accounts(), newAPI(t, ok).upstream(t))
			must(t, err)
			p.Update(other)
			wantAnswer(t, ask(t, client(t, p.Path()), http.MethodGet, "/v3/myself"), 200, "fine")
		}
	}
	must(t, write.Close())
	rest, err := io.ReadAll(resp.Body)
	if err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// roundTrip is a transport of an API that does nothing else.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An API may answer a large upload before it was sent, and who sends it may
// stop then: its turn is another's after a while.
func TestABodyThatNobodyWantsHoldsItsTurnOnlyForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon()
		pipe := newPipes()
		p, e, _ := newProxy(t, d, Upstream{
			URL: &url.URL{Scheme: "http", Host: "localhost"},
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				r.Body.Close()
				return &http.Response{StatusCode: http.StatusRequestEntityTooLarge, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			}),
		}, ProxyServerOptions{Inherited: pipe, peerOf: root})
		d.publish(t, version("bot", 1), e)
		near := pipe.dial()
		defer near.Close()
		go func() {
			_, _ = io.WriteString(near, "POST /v3/attachments HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nthe beginning")
		}()
		r := bufio.NewReader(near)
		wantAnswers(t, r, 1, http.StatusRequestEntityTooLarge)
		begin := time.Now()
		_ = near.SetReadDeadline(begin.Add(time.Hour))
		_, _ = io.Copy(io.Discard, r)
		if took := time.Since(begin); took > turns.RequestTimeout+2*time.Second {
			t.Errorf("let go after %v, want %v", took, turns.RequestTimeout)
		}
		synctest.Wait()
		if begun := p.server.Counts().Turns; begun != 0 {
			t.Errorf("%d turns are held", begun)
		}
	})
}

func TestAnAPIThatIsAwayIsSaidOnceAndQuotedNever(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	var answers sync.Map
	answers.Store("", "rubbish-that-is-a-secret\r\n\r\n")
	go func() {
		for {
			n, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(n))
			text, _ := answers.Load("")
			_, _ = io.WriteString(n, text.(string))
			n.Close()
		}
	}()
	var log logs
	u := &url.URL{Scheme: "http", Host: l.Addr().String()}
	tr := &http.Transport{DisableKeepAlives: true}
	_, e, c := newProxy(t, d, Upstream{URL: u, Transport: tr}, ProxyServerOptions{Log: log.logger()})
	d.publish(t, version("bot", 1), e)
	for range 20 {
		got := ask(t, c, http.MethodGet, "/v3/myself")
		wantAnswer(t, got, 502, "no answer of "+u.Host)
		if strings.Contains(got.body, "rubbish") {
			t.Error("it quotes what came")
		}
	}
	for range 3 { // it comes and goes: that is not said each time
		answers.Store("", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		wantAnswer(t, ask(t, c, http.MethodGet, "/v3/myself"), 200, "")
		answers.Store("", "")
		wantAnswer(t, ask(t, c, http.MethodGet, "/v3/myself"), 502, "closed before an answer came")
	}
	text := log.String()
	if strings.Count(text, "no response from the API; clients get 502") != 1 || strings.Count(text, "reaches the API again") != 1 || strings.Contains(text, "rubbish") {
		t.Errorf("it logs\n%s", text)
	}
	if reads := e.Reads(); reads["failed"] != 23 || reads["ok"] != 3 {
		t.Errorf("counted %v", reads)
	}
}

func TestMistakesInAProxysOptionsAreNamed(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]ProxyOptions{
		"":                                       {Listen: "/run/x.sock", Mode: 0o660, Group: "bots"},
		"allow: it allows nobody":                {Listen: "/run/x.sock", Allow: &Allow{}},
		"listen: the path has 200 bytes":         {Listen: "/" + strings.Repeat("x", 199)},
		"listen: \"localhost:1\" is neither":     {Listen: "localhost:1"},
		"listen: 10.0.0.1 can be reached":        {Listen: "10.0.0.1:80"},
		"listen: 169.254.169.254 can be reached": {Listen: "169.254.169.254:80"},
		"listen: port 0":                         {Listen: "127.0.0.1:0"},
		"mode: on TCP nobody knows":              {Listen: "[::1]:80", Mode: 0o600},
		"allow: on TCP nobody knows":             {Listen: "[::1]:80", Allow: &Allow{Users: []string{"x"}}},
	} {
		err := o.Validate()
		if want == "" {
			must(t, err)
			continue
		}
		wantError(t, err, want)
	}
}

func TestLinksLeadBackToTheProxyAlsoBelowAPath(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	asked := make(chan string, 2)
	var api *httptest.Server
	api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		w.Header().Set("Link", "<"+api.URL+`/base/v3/issues?page=2>; rel="next"`)
	}))
	defer api.Close()
	base, err := url.Parse(api.URL + "/base")
	must(t, err)
	_, e, c := newProxy(t, d, Upstream{URL: base, Transport: http.DefaultTransport}, ProxyServerOptions{})
	d.publish(t, version("bot", 1), e)
	for link, n := "http://localhost/v3/issues", 0; n < 2; n++ {
		resp, err := c.Get(link)
		must(t, err)
		resp.Body.Close()
		if got := <-asked; got != "/base/v3/issues" {
			t.Errorf("%s asks the API for %s", link, got)
		}
		link, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
}
