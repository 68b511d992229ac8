package daemon

import (
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/iam"
	"iam-token-refresher/refresher/probe"
	"iam-token-refresher/sink"
)

// warning is about what is allowed and perhaps not meant.
type warning struct{ what, text string }

// warnings are those about one token.
func warnings(t *config.Token) (list []warning) {
	add := func(what, text string) { list = append(list, warning{what, text}) }
	if _, ok := t.Source.Options.(*iam.OAuthTokenOptions); ok {
		add("source", iam.ExchangeDeprecated)
	}
	if t.Probe == nil {
		add("probe", "none is configured: the token is published unproven; say `probe: none` if that is meant")
	} else if o, ok := t.Probe.Options.(*probe.TrackerOptions); ok {
		switch {
		case o.OrgID != "" && TypeOf(t) == refresher.TypeIAM:
			add("probe", "org_id with an IAM token: Tracker takes IAM tokens in Cloud organizations only (cloud_org_id); a Yandex 360 organization needs the source oauth")
		case o.CloudOrgID != "" && strings.Trim(o.CloudOrgID, "0123456789") == "":
			add("probe", "cloud_org_id is a number: Cloud organizations have ids like bpfaidqca8vd0m5jl3fp, and a number is usually an org_id")
		}
	}
	for _, s := range t.Sinks {
		if _, ok := s.Options.(*sink.MetadataOptions); ok && TypeOf(t) == refresher.TypeOAuth {
			add("metadata", "the metadata API is for IAM tokens and will answer 404 for this OAuth token: use a socket or a file")
		}
	}
	return list
}
