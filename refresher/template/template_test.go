package template

import (
	"encoding/json"
	"os/exec"
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
		"line\n{{.Name}}\nline\n":    "line\nn\nline\n",
		"{{.Name | json}}":           `"n"`,
		"{{.Name|shell}}":            `'n'`,
		"{{.Name | base64}}":         "bg==",
		"{{.Name | base64 | json}}":  `"bg=="`,
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

func TestFunctionsSpellForTheirReaders(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "t1.x", `it's "quoted" \ $HOME`, "a\nb\t", "<&>", "über"} {
		fill := func(text string) string {
			tmpl, err := Parse(text, "Value")
			if err != nil {
				t.Fatal(err)
			}
			return tmpl.Fill(func(string) string { return s })
		}
		var got string
		if err := json.Unmarshal([]byte(fill("{{.Value | json}}")), &got); err != nil || got != s {
			t.Errorf("JSON readers make %q of %q: %v", got, s, err)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+fill("{{.Value | shell}}")).Output()
		if err != nil || string(out) != s {
			t.Errorf("sh makes %q of %q: %v", out, s, err)
		}
		if out := fill("{{.Value | base64}}"); strings.Trim(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != "" {
			t.Errorf("base64 of %q is %q", s, out)
		}
	}
}

func TestWhatIsNoFieldIsRefusedWithItsPlaceAndWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{{.Value":                "line 1, column 1: {{ without }}: write a field as {{.Value}}",
		"{{.Valeu}}":              "line 1, column 1: {{.Valeu}} is not known: only {{.Value}}, {{.Name}} can be used",
		"{{printf .Value}}":       "line 1, column 1: {{printf .Value}} is not known: only {{.Value}}, {{.Name}} can be used",
		"{{}}":                    "line 1, column 1: {{}} is not known: only {{.Value}}, {{.Name}} can be used",
		"{{.Value.Reveal}}":       "line 1, column 1: {{.Value.Reveal}} is not known: only {{.Value}}, {{.Name}} can be used",
		"ok {{.Name}} {{if}}":     "line 1, column 14: {{if}} is not known: only {{.Value}}, {{.Name}} can be used",
		"a\n{{.Name}}\nüb {{if}}": "line 3, column 4: {{if}} is not known: only {{.Value}}, {{.Name}} can be used",
		"\n\n{{.Name":             "line 3, column 1: {{ without }}: write a field as {{.Value}}",
		"{{.Name | upper}}":       "line 1, column 1: {{.Name | upper}} names no function that is known: only {{.Name | base64}}, {{.Name | json}}, {{.Name | shell}} can be used",
		"{{.Name |}}":             "line 1, column 1: {{.Name |}} names no function that is known: only {{.Name | base64}}, {{.Name | json}}, {{.Name | shell}} can be used",
	} {
		if _, err := Parse(text, "Value", "Name"); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
