package template

import (
	"strings"
	"testing"
)

func TestFieldsAreReplacedAndTheRestIsKept(t *testing.T) {
	t.Parallel()
	fields := map[string]string{"Value": "v{{.Name}}", "Name": "n"}
	for text, want := range map[string]string{
		"":                           "",
		"plain } } { {":              "plain } } { {",
		"{{.Value}}":                 "v{{.Name}}", // what is filled in is not looked at again
		"Bearer {{ .Value }}!":       "Bearer v{{.Name}}!",
		"{{.Name}}={{.Name}}":        "n=n",
		"}} {{.Name}} and {{.Name}}": "}} n and n",
	} {
		tmpl, err := Parse(text, "Value", "Name")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := tmpl.Fill(func(f string) string { return fields[f] }); got != want {
			t.Errorf("%q gave %q, want %q", text, got, want)
		}
		if tmpl.Uses("Name") != strings.Contains(text, ".Name") {
			t.Errorf("%q: Uses is wrong", text)
		}
	}
}

func TestWhatIsNoFieldIsRefusedWithWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{{.Value":            "{{ without }}: write a field as {{.Value}}",
		"{{.Valeu}}":          "{{.Valeu}} is not known: only {{.Value}}, {{.Name}} can be used",
		"{{printf .Value}}":   "{{printf .Value}} is not known: only {{.Value}}, {{.Name}} can be used",
		"{{}}":                "{{}} is not known: only {{.Value}}, {{.Name}} can be used",
		"{{.Value.Reveal}}":   "{{.Value.Reveal}} is not known: only {{.Value}}, {{.Name}} can be used",
		"ok {{.Name}} {{if}}": "{{if}} is not known: only {{.Value}}, {{.Name}} can be used",
	} {
		if _, err := Parse(text, "Value", "Name"); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
