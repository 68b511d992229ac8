package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/scrub"
)

// TrackerOptions configures a probe that asks Tracker who we are:
// https://yandex.ru/support/tracker/en/get-user-info
type TrackerOptions struct {
	CloudOrgID string `yaml:"cloud_org_id" doc:"id of a Yandex Cloud organization, like bpfaidqca8vd0m5jl3fp; sent as X-Cloud-Org-ID"`
	OrgID      string `yaml:"org_id" doc:"id of a Yandex 360 organization, like 1234567; sent as X-Org-ID; IAM tokens work only with cloud_org_id"`
}

// Validate finds what cannot be right; it asks nobody.
func (o TrackerOptions) Validate() error {
	var mistakes []error
	switch {
	case o.CloudOrgID != "" && o.OrgID != "":
		mistakes = append(mistakes, &refresher.Invalid{
			Field:   "org_id",
			Problem: "cloud_org_id is given too: keep the one that your organization has (cloud_org_id for Yandex Cloud, org_id for Yandex 360)",
		})
	case o.CloudOrgID == "" && o.OrgID == "":
		mistakes = append(mistakes, &refresher.Invalid{
			Problem: "needs cloud_org_id (Yandex Cloud) or org_id (Yandex 360): Tracker shows it under Administration, Organizations",
		})
	}
	for _, id := range [...]struct{ field, value string }{{"cloud_org_id", o.CloudOrgID}, {"org_id", o.OrgID}} {
		if id.value != "" && !validOrgID(id.value) {
			mistakes = append(mistakes, &refresher.Invalid{
				Field:   id.field,
				Problem: "is not an organization id: letters, digits, '-' and '_', at most 100",
			})
		}
	}
	return invalid(mistakes)
}

// Organization is the one that is asked, whatever its kind.
func (o TrackerOptions) Organization() string { return cmp.Or(o.CloudOrgID, o.OrgID) }

// Header is what tells Tracker the organization: its name and value.
func (o TrackerOptions) Header() (name, id string) {
	if o.OrgID != "" {
		return "X-Org-ID", o.OrgID
	}
	return "X-Cloud-Org-ID", o.CloudOrgID
}

// Other is the same id in the other header.
func (o TrackerOptions) Other() TrackerOptions {
	return TrackerOptions{CloudOrgID: o.OrgID, OrgID: o.CloudOrgID}
}

// Field is the key that the id stands under in the configuration.
func (o TrackerOptions) Field() string {
	if o.OrgID != "" {
		return "org_id"
	}
	return "cloud_org_id"
}

func validOrgID(s string) bool {
	return len(s) <= 100 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == "" &&
		!strings.ContainsFunc(s, func(r rune) bool { return r > '~' || r <= ' ' })
}

// New makes the probe. It asks nobody.
func (o TrackerOptions) New(c Config) (refresher.Probe, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	base, err := c.Tracker()
	if err != nil {
		return nil, err
	}
	p := &tracker{
		client: c.client(),
		base:   base,
		url:    base.JoinPath("v3", "myself"),
		agent:  c.UserAgent,
		scheme: c.Scheme,
		field:  o.Field(),
	}
	p.header, p.org = o.Header()
	if p.scheme == "" {
		p.scheme = SchemeBearer
	}
	return p, nil
}

type tracker struct {
	client             *http.Client
	base, url          *url.URL
	agent, scheme      string
	header, field, org string // of the organization
}

func (p *tracker) Target() string {
	return fmt.Sprintf("tracker %s=%s at %s", p.field, p.org, strings.TrimSuffix(p.base.Redacted(), "/"))
}

func (p *tracker) Host() string { return hostPort(p.url) }

func (p *tracker) Probe(ctx context.Context, v refresher.Value) refresher.Finding {
	secret := v.Reveal()
	if secret == "" || !validHeaderValue(secret) {
		return refresher.Finding{
			Verdict: refresher.Unknown,
			Reason:  fmt.Sprintf("not tried on Tracker: the value of %d bytes cannot be put into a header: check what the source gives", len(secret)),
		}
	}
	header := http.Header{
		"Accept": {"application/json"},
		// Without this the transport would ask for gzip, for 300 bytes.
		"Accept-Encoding": {"identity"},
		"Authorization":   {p.scheme + " " + secret},
	}
	header.Set(p.header, p.org)
	if p.agent != "" {
		header.Set("User-Agent", p.agent)
	}
	a, why := ask(ctx, p.client, p.url, header, []string{secret})
	if why != "" {
		return refresher.Finding{Verdict: refresher.Unknown, Reason: p.reason(why)}
	}
	f := a.finding()
	var say string
	f.Verdict, say = p.judge(a, secret)
	f.Reason = p.reason(say)
	return f
}

func (p *tracker) reason(say string) string {
	return fmt.Sprintf("Tracker at %s: %s", p.url.Host, say)
}

// judge tells Tracker's own answers from everybody else's:
// https://yandex.ru/support/tracker/en/api-ref/error-codes
func (p *tracker) judge(a answer, secret string) (refresher.Verdict, string) {
	said := readTracker(a.body)
	own := scrub.Message(said.message, secret)
	if own != "" {
		own = ": " + own
	}
	switch {
	case a.status == http.StatusOK && said.account:
		if login := scrub.Message(said.login, secret); login != "" {
			return refresher.Accepted, fmt.Sprintf("200, the account is %s", login)
		}
		return refresher.Accepted, "200"
	case a.status == http.StatusOK:
		return refresher.Unknown, fmt.Sprintf("200, but not with Tracker's answer (%s): does a proxy or a login page answer in its place?", a.kind())
	case a.status == http.StatusUnauthorized && said.refusal:
		return refresher.RejectedToken, fmt.Sprintf("401%s: the token is expired, revoked or not one that Tracker takes", own)
	case a.status == http.StatusForbidden && said.refusal:
		return refresher.RejectedAccess, fmt.Sprintf("403%s: the account has no access to organization %s, or %s", own, p.org, p.otherwise())
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return refresher.Unknown, fmt.Sprintf("%d, but not Tracker's own (%s): a proxy or firewall answers in its place", a.status, a.kind())
	case a.status == http.StatusTooManyRequests:
		return refresher.Unknown, fmt.Sprintf("429%s: asked too often", own)
	case a.status >= 500:
		return refresher.Unknown, fmt.Sprintf("%d%s: trouble on Tracker's side or in a proxy before it", a.status, own)
	case a.status >= 300 && a.status < 400:
		return refresher.Unknown, scrub.Message(fmt.Sprintf("%d, a redirect %s: not followed with a token; check Tracker's address and the proxy", a.status, a.redirect()), secret)
	case a.status == http.StatusBadRequest:
		return refresher.Unknown, fmt.Sprintf("400%s: check %s", own, p.field)
	}
	return refresher.Unknown, fmt.Sprintf("%d%s: not an answer to expect (%s): check Tracker's address", a.status, own, a.kind())
}

// otherwise is what a 403 may mean but that an access is missing. IAM tokens are
// for Cloud organizations only.
// https://yandex.ru/support/tracker/en/api-ref/access
func (p *tracker) otherwise() string {
	switch {
	case p.field != "cloud_org_id":
		return "the organization header is of the wrong kind (then use cloud_org_id in place of org_id)"
	case p.scheme == SchemeOAuth:
		return "the organization header is of the wrong kind (then use org_id in place of cloud_org_id)"
	}
	return "it is no Yandex Cloud organization (one of Yandex 360 takes the source oauth with org_id)"
}
