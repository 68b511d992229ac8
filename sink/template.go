package sink

import (
	"strconv"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/template"
)

// templateFields are what templates may use.
var templateFields = []string{"Value", "Name", "Type", "ExpiresAt", "Version", "OrgID"}

// exampleOrg stands for the organization where none is known yet.
const exampleOrg = "bpfexample"

// exampleVersion is run through templates when the configuration is read.
func exampleVersion() refresher.Version {
	return refresher.Version{
		Token: "example", Value: refresher.NewValue("t1.example"), Type: refresher.TypeIAM,
		ExpiresAt: time.Unix(1767225600, 0), N: 1,
	}
}

// expand fills a version, and the organization that it is for, into text. It
// parses text each time: it is used once an hour, and a parsed template is
// larger than its text.
func expand(text string, v refresher.Version, org string) (string, error) {
	t, err := template.Parse(text, templateFields...)
	if err != nil {
		return "", err
	}
	return t.Fill(func(field string) string { return fieldOf(field, v, org) }), nil
}

func fieldOf(field string, v refresher.Version, org string) string {
	switch field {
	case "Value":
		return v.Value.Reveal()
	case "Name":
		return v.Token
	case "Type":
		return v.Type
	case "Version":
		return strconv.FormatUint(v.N, 10)
	case "OrgID":
		return org
	}
	return expiry(v)
}

// expiry is a version's end in RFC 3339, empty when nobody knows it.
func expiry(v refresher.Version) string {
	if v.ExpiresAt.IsZero() {
		return ""
	}
	return v.ExpiresAt.UTC().Format(time.RFC3339)
}

// checkOrg refuses a template that uses the organization where there is none.
func checkOrg(field, text, org string) error {
	if t, err := template.Parse(text, templateFields...); err != nil || org != "" || !t.Uses("OrgID") {
		return nil
	}
	return &refresher.Invalid{Field: field, Problem: "uses {{.OrgID}}, and the token has no probe that names an organization: give it `probe: {tracker: {cloud_org_id: …}}`, or write the id itself"}
}
