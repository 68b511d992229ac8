package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/probe"
)

// otherHeader tries a value that Tracker gave no access with the organization's
// id in the other header. Where that works, it says what to change: Tracker
// answers the wrong header as it answers a missing right.
// https://yandex.ru/support/tracker/en/common-format
func (c *checker) otherHeader(ctx context.Context, v refresher.Value) string {
	o, ok := c.token.Probe.Options.(*probe.TrackerOptions)
	if !ok {
		return ""
	}
	other := o.Other()
	p, err := other.New(c.probing())
	if err != nil || c.probe(ctx, p, v).Verdict != refresher.Accepted {
		return ""
	}
	name, id := other.Header()
	change := fmt.Sprintf("with the header %s it is accepted: write %s: %q in place of %s", name, other.Field(), id, o.Field())
	// Reading it again is what finds the line, or the flag.
	_, err = c.daemon.opt.Load(func(cfg *config.Config) error {
		for _, t := range cfg.Tokens {
			if t.Name == c.token.Name {
				return &config.Unfit{Of: t.Probe.Options, Err: &refresher.Invalid{Field: o.Field(), Problem: change}}
			}
		}
		return nil
	})
	var placed config.Errors
	if errors.As(err, &placed) {
		return placed.Error()
	}
	return change
}

func (c *checker) probing() probe.Config {
	p := planner{builder: c.daemon.builder, plan: c.daemon.plan.Load()}
	p.web = p.plan.web
	return p.probing(&c.token)
}

// DiscoverOrg finds out with each token's value which header of Tracker an
// organization's id belongs in, and what to write into the configuration.
func (d *Daemon) DiscoverOrg(ctx context.Context, id string, report func(CheckResult)) error {
	if d.broken != nil {
		return d.broken
	}
	found := false
	p := d.plan.Load()
	for i, spec := range p.specs {
		c := checker{daemon: d, spec: spec, token: p.cfg.Tokens[i], say: func(r CheckResult) {
			r.Token = spec.Token
			found = found || r.OK
			report(r)
		}}
		c.discover(ctx, id)
	}
	if !found {
		return ErrCheckFailed
	}
	return nil
}

func (c *checker) discover(ctx context.Context, id string) {
	m, err := c.mint(ctx)
	if err != nil {
		c.say(CheckResult{What: "mint", Detail: err.Error()})
		return
	}
	var refused []string
	for _, o := range []probe.TrackerOptions{{CloudOrgID: id}, {OrgID: id}} {
		name, _ := o.Header()
		p, err := o.New(c.probing())
		if err != nil {
			c.say(CheckResult{What: name, Detail: err.Error()})
			return
		}
		f := c.probe(ctx, p, m.Value)
		if f.Verdict == refresher.Accepted {
			c.say(CheckResult{What: name, OK: true, Detail: fmt.Sprintf("%s: write probe: {tracker: {%s: %q}}", f.Reason, o.Field(), id)})
			return
		}
		refused = append(refused, name+": "+f.Verdict.String()+": "+f.Reason)
	}
	advice := "this account has no access to that organization: let an administrator of Tracker give it access, or check the id under Administration, Organizations"
	if TypeOf(&c.token) == refresher.TypeIAM {
		advice += "; if it is a Yandex 360 organization, IAM tokens never work there: use the source oauth"
	}
	c.say(CheckResult{What: "organization " + id, Detail: strings.Join(append(refused, advice), "\n")})
}
