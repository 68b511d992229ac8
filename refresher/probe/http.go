package probe

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/scrub"
)

// HTTPOptions configures a probe of any API. Its verdict is accepted or
// rejected by the status alone; a web page is nobody's answer and unknown.
type HTTPOptions struct {
	URL         string            `yaml:"url" doc:"what to GET; https, or http on loopback" check:"required"`
	Headers     map[string]string `yaml:"headers" doc:"headers to send; the values are templates over .Value, like Bearer {{.Value}}"`
	HeadersFile string            `yaml:"headers_file" doc:"file of lines 'Name: template', for headers that are secrets themselves" check:"path"`
	Accepted    []int             `yaml:"accepted" doc:"status codes that mean that the API takes the token; [200] if not given"`
	Rejected    []int             `yaml:"rejected" doc:"status codes that mean that it does not; 403 means no access, all others a bad token; [401, 403] if not given"`
}

// Validate finds what cannot be right without reading a file or asking anybody.
func (o HTTPOptions) Validate() error {
	var mistakes []error
	if o.URL != "" {
		if _, err := checkURL("url", o.URL); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	switch {
	case len(o.Headers) > 0 && o.HeadersFile != "":
		mistakes = append(mistakes, &refresher.Invalid{Field: "headers_file", Problem: "headers are given too: keep one of them"})
	case len(o.Headers) == 0 && o.HeadersFile == "":
		mistakes = append(mistakes, &refresher.Invalid{Field: "headers", Problem: `say how the token is sent, like Authorization: "Bearer {{.Value}}" (or give headers_file)`})
	case o.HeadersFile == "":
		if _, err := parseHeaders(o.Headers); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	accepted, rejected := o.codes()
	for _, list := range [...]struct {
		field string
		codes []int
	}{{"accepted", accepted}, {"rejected", rejected}} {
		for _, code := range list.codes {
			if problem := codeProblem(code); problem != "" {
				mistakes = append(mistakes, &refresher.Invalid{Field: list.field, Problem: fmt.Sprintf("%d %s", code, problem)})
			}
		}
	}
	for _, code := range rejected {
		if slices.Contains(accepted, code) {
			mistakes = append(mistakes, &refresher.Invalid{Field: "rejected", Problem: fmt.Sprintf("%d is in accepted too", code)})
		}
	}
	return invalid(mistakes)
}

// codes fills in the defaults. A list that was given without the other takes
// its codes out of the other's default.
func (o HTTPOptions) codes() (accepted, rejected []int) {
	accepted, rejected = o.Accepted, o.Rejected
	if len(accepted) == 0 {
		accepted = slices.DeleteFunc([]int{http.StatusOK}, func(c int) bool { return slices.Contains(o.Rejected, c) })
	}
	if len(rejected) == 0 {
		rejected = slices.DeleteFunc([]int{http.StatusUnauthorized, http.StatusForbidden}, func(c int) bool { return slices.Contains(o.Accepted, c) })
	}
	return accepted, rejected
}

func codeProblem(code int) string {
	switch {
	case code < 200 || code > 599:
		return "is not a status code of an answer (200 to 499)"
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusProxyAuthRequired:
		return "says nothing of the token: it is always unknown"
	}
	return ""
}

// Rebuild lists the files whose change makes another probe.
func (o HTTPOptions) Rebuild() []string {
	if o.HeadersFile == "" {
		return nil
	}
	return []string{o.HeadersFile}
}

// New makes the probe: reads the headers file, and asks nobody.
func (o HTTPOptions) New(c Config) (refresher.Probe, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	u, err := checkURL("url", o.URL)
	if err != nil {
		return nil, err
	}
	p := &api{client: c.client(), url: u, agent: c.UserAgent}
	p.accepted, p.rejected = o.codes()
	if o.HeadersFile != "" {
		p.headers, err = readHeaders(o.HeadersFile)
	} else {
		p.headers, err = parseHeaders(o.Headers)
	}
	if err != nil {
		return nil, err
	}
	p.target = target(p)
	return p, nil
}

// target names what a verdict depends on. What may hold secrets is in it as a
// short hash (the query), or by name only (a headers file).
func target(p *api) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %v %v", p.url.RawQuery, p.accepted, p.rejected)
	for _, header := range p.headers {
		_, _ = fmt.Fprintf(h, " %q=%q", header.name, header.text)
	}
	return fmt.Sprintf("http %s (settings %.4x)", plainURL(p.url), h.Sum(nil))
}

// plainURL is an address without its query, which may hold a key.
func plainURL(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.RawQuery != "" {
		return shown.String() + "?…"
	}
	return shown.String()
}

type api struct {
	client             *http.Client
	url                *url.URL
	agent, target      string
	headers            []headerTemplate // sorted by name
	accepted, rejected []int
}

func (p *api) Target() string { return p.target }

func (p *api) Host() string { return hostPort(p.url) }

func (p *api) Probe(ctx context.Context, v refresher.Value) refresher.Finding {
	header := http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"identity"}}
	if p.agent != "" {
		header.Set("User-Agent", p.agent)
	}
	secrets := []string{v.Reveal()}
	if v.IsZero() {
		return p.unknown("not tried: there is no value")
	}
	for _, h := range p.headers {
		value, err := h.render(v.Reveal())
		if err != nil {
			return p.unknown("not tried: " + err.Error())
		}
		header.Set(h.name, value)
		secrets = append(secrets, secretsOf(value)...)
	}
	a, why := ask(ctx, p.client, p.url, header, secrets)
	if why != "" {
		return p.unknown(why)
	}
	f := a.finding()
	// The one clock by which every token is judged is the cloud's, not that of
	// whatever API this is.
	f.ServerTime = time.Time{}
	var say string
	f.Verdict, say = p.judge(a, secrets)
	f.Reason = p.reason(say)
	return f
}

func (p *api) unknown(why string) refresher.Finding {
	return refresher.Finding{Verdict: refresher.Unknown, Reason: p.reason(why)}
}

func (p *api) reason(say string) string { return plainURL(p.url) + ": " + say }

func (p *api) judge(a answer, secrets []string) (refresher.Verdict, string) {
	accepted, rejected := slices.Contains(p.accepted, a.status), slices.Contains(p.rejected, a.status)
	own := scrub.Message(apiMessage(a.body), secrets...)
	if own != "" {
		own = ": " + own
	}
	switch {
	case (accepted || rejected) && a.isPage():
		return refresher.Unknown, fmt.Sprintf("%d, but with a web page (%s): a proxy or a login page answers in its place, or this is not the address of an API", a.status, a.kind())
	case accepted:
		return refresher.Accepted, fmt.Sprint(a.status)
	case rejected && a.status == http.StatusForbidden:
		return refresher.RejectedAccess, fmt.Sprintf("403%s: the account has no access there", own)
	case rejected:
		return refresher.RejectedToken, fmt.Sprintf("%d%s: the token is expired, revoked or not one that this API takes", a.status, own)
	case a.status == http.StatusTooManyRequests:
		return refresher.Unknown, fmt.Sprintf("429%s: asked too often", own)
	case a.status >= 300 && a.status < 400:
		return refresher.Unknown, scrub.Message(fmt.Sprintf("%d, a redirect %s: not followed with a token; check probe.http.url", a.status, a.redirect()), secrets...)
	}
	return refresher.Unknown, fmt.Sprintf("%d%s: neither in accepted nor in rejected (%s)", a.status, own, a.kind())
}

// secretsOf lists what of a header's value an answer must not echo: all of it,
// and its words ("Basic dXNlcjpwYXNz").
func secretsOf(value string) []string {
	secrets := []string{value}
	for _, word := range strings.Fields(value) {
		if len(word) >= 12 { // "Basic" is none
			secrets = append(secrets, word)
		}
	}
	return secrets
}
