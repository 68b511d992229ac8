package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/oauth"
	"iam-token-refresher/refresher/probe"
)

func (l *login) organization() probe.TrackerOptions {
	return probe.TrackerOptions{CloudOrgID: l.cloudOrgID, OrgID: l.orgID}
}

// prove tries a login on Tracker, with the other header where the one gives no
// access, and writes the configuration that works.
func (l *login) prove(ctx context.Context, transport *http.Transport, got oauth.Login) error {
	o := l.organization()
	if o == (probe.TrackerOptions{}) {
		l.tell("It was not tried on Tracker: give --org-id (Yandex 360) or --cloud-org-id (Yandex Cloud) with\nthe id that Tracker shows under Administration, Organizations, or try it with \"check\".\n")
		l.configuration(o)
		return nil
	}
	found, err := l.try(ctx, transport, o, got)
	if err != nil {
		return err
	}
	if found.Verdict == refresher.RejectedAccess {
		other := o.Other()
		if again, err := l.try(ctx, transport, other, got); err == nil && again.Verdict == refresher.Accepted {
			l.tell("Tracker wants this organization as %s and not as %s: that is what the lines below say.\n", other.Field(), o.Field())
			found, o = again, other
		}
	}
	switch found.Verdict {
	case refresher.Accepted:
		l.tell("%s. The login works.\n", found.Reason)
		l.configuration(o)
		return nil
	case refresher.RejectedAccess:
		return errors.New("the login is stored, but Tracker does not let it in: " + found.Reason + ". The other organization header was tried, too: check the id, the application's permission tracker:read, and the person's access")
	case refresher.RejectedToken:
		return errors.New("the login is stored, but Tracker does not take it: " + found.Reason)
	}
	return errors.New("the login is stored, but nothing can be told of it now: " + found.Reason + ": try it with \"check\" later")
}

const proveTimeout = 20 * time.Second

func (l *login) try(ctx context.Context, transport *http.Transport, o probe.TrackerOptions, got oauth.Login) (refresher.Finding, error) {
	p, err := o.New(probe.Config{
		Client: &http.Client{Transport: transport}, TrackerURL: l.trackerURL,
		UserAgent: program + "/" + buildVersion().Version, Scheme: probe.SchemeOAuth,
	})
	if err != nil {
		return refresher.Finding{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	return p.Probe(ctx, got.Access), nil
}

// configuration writes the lines that use the login.
func (l *login) configuration(o probe.TrackerOptions) {
	l.tell("\nFor the configuration:\n\n")
	secret, organization := "", "{tracker: {"+o.Field()+": "+strconv.Quote(l.orgID+l.cloudOrgID)+"}}"
	if l.secretFile != "" {
		secret = ", client_secret_file: " + config.QuotePath(l.secretFile)
	}
	if o == (probe.TrackerOptions{}) {
		organization = "none   # or {tracker: {org_id: \"…\"}}"
	}
	_, _ = fmt.Fprintf(l.stdout, `tokens:
  - name: tracker
    source: {oauth: {client_id: %s%s, token_file: %s}}
    probe: %s
    sinks:
      - file: {path: /run/iam-token-refresher/tracker.header, format: header}
`, strconv.Quote(l.clientID), secret, config.QuotePath(l.tokenFile), organization)
}
