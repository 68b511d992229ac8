package sink

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"iam-token-refresher/refresher"
)

// awkward values, each with the dialects that take it.
var awkward = map[string]string{
	"t1.9euelZ-_.abc==":   "all shell docker",
	"a/b:c,d@e%f+g=h":     "all shell docker",
	"":                    "all shell docker",
	"with space":          "shell docker",
	" leading":            "shell docker",
	"trailing ":           "shell docker",
	`it's`:                "shell docker",
	`"quoted"`:            "shell docker",
	`back\slash\n`:        "shell docker",
	`$HOME ${HOME} $(id)`: "shell docker",
	"`id`":                "shell docker",
	"#comment;&|<>*?~!":   "shell docker",
	"tab\there":           "shell docker",
	"über":                "shell docker",
	"not\xffutf8":         "shell",
	"line\nbreak":         "",
	"carriage\rreturn":    "",
	"nul\x00":             "",
	"'\n'":                "",
}

func TestEnvFilesAreSpelledForTheirReaders(t *testing.T) {
	t.Parallel()
	for value, dialects := range awkward {
		v := version("bot", 1)
		v.Value = refresher.NewValue("secret" + value)
		for _, dialect := range []string{"", "shell", "docker"} {
			name := dialect
			if name == "" {
				name = "all"
			}
			e, err := NewEnvFile(EnvFileOptions{
				Path: filepath.Join(t.TempDir(), "env"), Dialect: dialect, Variables: map[string]string{"TOKEN": "{{.Value}}"},
			}, "", accounts())
			must(t, err)
			err = e.Publish(t.Context(), v)
			if !strings.Contains(dialects, name) {
				wantError(t, err, "variable TOKEN: its value ")
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error quotes the value: %v", err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %q: %v", name, value, err)
				continue
			}
			for reader, read := range map[string]func(*testing.T, string) string{"shell": bySh, "docker": byDocker, "systemd": bySystemd} {
				if dialect != "" && dialect != reader {
					continue
				}
				if got := read(t, e.Path()); got != "secret"+value {
					t.Errorf("dialect %s: %s reads %q, want %q", name, reader, got, "secret"+value)
				}
			}
		}
	}
}

func bySh(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `set -a; . "$1"; env printf %s "$TOKEN"`, "sh", path).Output()
	must(t, err)
	return string(out)
}

// byDocker follows the rules of docker's --env-file: lines, blanks before the
// name cut, everything after the first = as it is.
func byDocker(t *testing.T, path string) string {
	t.Helper()
	for line := range strings.Lines(content(t, &File{path: path})) {
		line = strings.TrimLeft(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), " \t")
		if name, value, ok := strings.Cut(line, "="); ok && name == "TOKEN" {
			return value
		}
	}
	return "(none)"
}

// bySystemd follows those rules of systemd.exec(5) that matter to unquoted
// text: blanks around the value are cut, a backslash takes the next character.
func bySystemd(t *testing.T, path string) string {
	t.Helper()
	value := strings.Trim(byDocker(t, path), " \t")
	if strings.ContainsAny(value, `"'\#;`) {
		return "(not plain)"
	}
	return value
}

func TestEnvFilesHoldAllVariablesInOrder(t *testing.T) {
	t.Parallel()
	e, err := NewEnvFile(EnvFileOptions{
		Path:      filepath.Join(t.TempDir(), "env"),
		Variables: map[string]string{"YC_TOKEN": "{{.Value}}", "A_NAME": "{{.Name}}", "EXPIRES": "{{.ExpiresAt}}", "N": "{{.Version}}", "K": "{{.Type}}", "ORG": "{{.OrgID}}"},
	}, "bpfem0", accounts())
	must(t, err)
	v := version("bot", 3)
	v.Value = refresher.NewValue("t1.x")
	must(t, e.Publish(t.Context(), v))
	want := "A_NAME=bot\nEXPIRES=2026-09-02T00:00:00Z\nK=iam\nN=3\nORG=bpfem0\nYC_TOKEN=t1.x\n"
	if got := content(t, e); got != want {
		t.Errorf("the file holds %q, want %q", got, want)
	}
	must(t, e.Holds(t.Context(), v))
}

func FuzzEnvFilesRoundTripThroughShell(f *testing.F) {
	for value := range awkward {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		line, err := assign("", "TOKEN", value)
		if err == nil && line != "TOKEN="+value+"\n" {
			t.Errorf("%q is spelled %q", value, line)
		}
		line, err = assign("shell", "TOKEN", value)
		if err != nil {
			return
		}
		out, err := exec.Command("sh", "-c", line+`env printf %s "$TOKEN"`).Output()
		if err != nil || string(out) != value {
			t.Errorf("%q: sh reads %q, %v", value, out, err)
		}
	})
}
