package sink

import (
	"errors"
	"strings"
	"text/template"
	"time"

	"iam-token-refresher/refresher"
)

// templateData is what templates may use.
type templateData struct {
	Value, Name, Type string
	ExpiresAt         templateTime
	Version           uint64
}

// templateTime prints as RFC 3339 in UTC, and as nothing when it is not known.
type templateTime struct{ time.Time }

func (t templateTime) String() string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func dataOf(v refresher.Version) templateData {
	return templateData{Value: v.Value.Reveal(), Name: v.Token, Type: v.Type, ExpiresAt: templateTime{v.ExpiresAt}, Version: v.N}
}

// exampleData is run through templates when the configuration is read.
func exampleData() templateData {
	return templateData{Value: "t1.example", Name: "example", Type: refresher.TypeIAM, ExpiresAt: templateTime{time.Unix(1767225600, 0)}, Version: 1}
}

// expand parses text each time: a parsed template is far larger than its text,
// and is used once an hour. The errors of its execution may quote the secret:
// they are for [exampleData] only.
func expand(text string, data templateData) (string, error) {
	t, err := template.New("").Parse(text)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	return b.String(), nil
}
