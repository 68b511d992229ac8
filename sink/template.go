package sink

import (
	"strconv"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/template"
)

// templateFields are what templates may use.
var templateFields = []string{"Value", "Name", "Type", "ExpiresAt", "Version"}

// exampleVersion is run through templates when the configuration is read.
func exampleVersion() refresher.Version {
	return refresher.Version{
		Token: "example", Value: refresher.NewValue("t1.example"), Type: refresher.TypeIAM,
		ExpiresAt: time.Unix(1767225600, 0), N: 1,
	}
}

// expand parses text each time: it is used once an hour, and a parsed template
// is larger than its text.
func expand(text string, v refresher.Version) (string, error) {
	t, err := template.Parse(text, templateFields...)
	if err != nil {
		return "", err
	}
	return t.Fill(func(field string) string {
		switch field {
		case "Value":
			return v.Value.Reveal()
		case "Name":
			return v.Token
		case "Type":
			return v.Type
		case "Version":
			return strconv.FormatUint(v.N, 10)
		}
		if v.ExpiresAt.IsZero() {
			return "" // nobody knows
		}
		return v.ExpiresAt.UTC().Format(time.RFC3339)
	}), nil
}
