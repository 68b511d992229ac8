package sink

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"iam-token-refresher/refresher"
)

// EnvFileOptions describe a file of environment variables.
type EnvFileOptions struct {
	Path      string            `yaml:"path" doc:"the file; its directory must exist and be writable" check:"required,path"`
	Variables map[string]string `yaml:"variables" doc:"name: template as of a file, for instance YC_TOKEN: \"{{.Value}}\"" check:"required"`
	Dialect   string            `yaml:"dialect" doc:"left out: one spelling that systemd, docker --env-file and sh read alike; shell or docker: any value, spelled for that reader alone"`
	Mode      FileMode          `yaml:"mode" doc:"quoted octal permissions, whatever the umask (default \"0600\", with a group \"0640\")"`
	Owner     string            `yaml:"owner" doc:"user that the file belongs to, by name or number (default: ours, or with write: in_place whose it is); only root may give files away"`
	Group     string            `yaml:"group" doc:"group that the file belongs to, by name or number (default: what a new file gets)"`
	Write     string            `yaml:"write" doc:"rename: a reader never sees half a token (default); in_place: for a file that is mounted by itself, a torn read is possible; a file that is there and not mounted must belong to us, root or owner"`
}

// Validate finds what can be told without looking at the system; each template
// is tried on an example.
func (o EnvFileOptions) Validate() error {
	var errs []error
	invalid := func(field, format string, args ...any) {
		errs = append(errs, &refresher.Invalid{Field: field, Problem: fmt.Sprintf(format, args...)})
	}
	switch o.Dialect {
	case "", "shell", "docker":
	default:
		invalid("dialect", "%q is not one of shell, docker", o.Dialect)
	}
	if len(o.Variables) == 0 {
		invalid("variables", `name at least one, for instance YC_TOKEN: "{{.Value}}"`)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Variables)) {
		field := "variables." + name
		if !isVariableName(name) {
			invalid(field, "%q is not a name of a variable: use letters, digits and _, and no digit first", name)
			continue
		}
		value, err := expand(o.Variables[name], exampleVersion(), exampleOrg)
		if err != nil {
			invalid(field, "%v", err)
			continue
		}
		if _, err := assign(o.Dialect, name, value); err != nil {
			invalid(field, "%v", err)
		}
	}
	return errors.Join(append(errs, validatePlace(o.Mode, o.Write)...)...)
}

// NewEnvFile makes a sink of valid options. org is the organization of
// templates, if there is one. It touches nothing; an unknown user or group, or
// a template that needs an organization where there is none, is a
// [*refresher.Invalid].
func NewEnvFile(o EnvFileOptions, org string, accounts *Accounts) (*File, error) {
	for name, text := range o.Variables {
		if err := checkOrg("variables."+name, text, org); err != nil {
			return nil, err
		}
	}
	return newFile("env_file:", o.Path, place{o.Mode, o.Owner, o.Group, o.Write}, accounts,
		func(v refresher.Version) ([]byte, error) { return renderEnv(v, org, o.Variables, o.Dialect) })
}

func renderEnv(v refresher.Version, org string, variables map[string]string, dialect string) ([]byte, error) {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value, err := expand(variables[name], v, org)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		line, err := assign(dialect, name, value)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		b = append(b, line...)
	}
	return b, nil
}

// EnvLine spells NAME=VALUE as systemd, docker and sh read it alike. Its error
// holds nothing of the value.
func EnvLine(name, value string) (string, error) {
	if !isVariableName(name) {
		return "", fmt.Errorf("%q is not a name of a variable: use letters, digits and _, and no digit first", name)
	}
	return assign("", name, value)
}

// assign spells one line. What each reader makes of it:
// systemd.exec(5), EnvironmentFile=; https://docs.docker.com/reference/cli/docker/container/run/#env;
// sh(1). Only [plain] text means the same to all three.
func assign(dialect, name, value string) (string, error) {
	switch {
	case strings.ContainsAny(value, "\n\r\x00"):
		return "", errors.New("its value holds a line break or NUL, which no reader of env files takes: use a file sink")
	case dialect == "shell":
		return name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n", nil
	case dialect == "docker" && !utf8.ValidString(value):
		return "", errors.New("its value is not UTF-8, which docker refuses: use a file sink")
	case dialect == "docker", plain(value):
		return name + "=" + value + "\n", nil
	}
	return "", errors.New("its value holds a character outside A-Za-z0-9_.,:/@%+=-, which systemd, docker and sh do not read alike: " +
		"set `dialect: shell` or `dialect: docker` if only one of them reads the file, or change the template")
}

func plain(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("_.,:/@%+=-", c) >= 0:
		default:
			return false
		}
	}
	return true
}

func isVariableName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
