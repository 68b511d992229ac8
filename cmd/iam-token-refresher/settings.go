package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
)

// defaultConfigPath is read when nothing else is said, if it is there.
const defaultConfigPath = "/etc/iam-token-refresher/config.yaml"

// settings are the flags that say what to do: --config, or those of one token.
type settings struct {
	config *textFlag
	token  []tokenFlag
}

type tokenFlag struct {
	config.Flag
	*textFlag
}

// addSettings gives a command the flags of the configuration.
func addSettings(cmd *cobra.Command) *settings {
	s := &settings{config: &textFlag{kind: "path"}}
	f := cmd.Flags()
	f.Var(s.config, "config", "configuration file (default "+defaultConfigPath+", if it exists)")
	table := config.Flags()
	for _, title := range flagTitles {
		for _, one := range table {
			if titleOf(one) != title {
				continue
			}
			flag := tokenFlag{one, &textFlag{kind: kindOf(one)}}
			s.token = append(s.token, flag)
			added := f.VarPF(flag.textFlag, one.Name, "", helpOf(one))
			added.Annotations = map[string][]string{flagGroup: {title}}
			if one.Bool {
				added.NoOptDefVal = "true"
			}
		}
	}
	return s
}

// The headings of the flags of one token, in the order of help.
const (
	titleCommon   = "One token without a file (--key-file is also ITR_KEY_FILE, and so on):"
	titleSources  = "Other sources of its values:"
	titleProbe    = "How values are tried:"
	titleRenewal  = "When values are renewed:"
	titleSinks    = "More about where values go:"
	titleDaemon   = "The daemon:"
	titleSurround = "Other regions, proxies and tests:"
)

var flagTitles = []string{titleCommon, titleSources, titleProbe, titleRenewal, titleSinks, titleDaemon, titleSurround}

func titleOf(f config.Flag) string {
	switch f.Name {
	case "key-file", "cloud-org-id", "org-id", "file", "env-file", "socket", "state-dir":
		return titleCommon
	}
	for _, t := range []struct{ start, title string }{
		{"tokens[0].source", titleSources},
		{"tokens[0].probe", titleProbe},
		{"tokens[0].refresh", titleRenewal},
		{"tokens[0].sinks", titleSinks},
		{"endpoints", titleSurround},
		{"ca_file", titleSurround},
	} {
		if strings.HasPrefix(f.Path, t.start) {
			return t.title
		}
	}
	return titleDaemon
}

// kindOf is the word for the value in the help.
func kindOf(f config.Flag) string {
	ends := func(list ...string) bool {
		for _, end := range list {
			if f.Name == end || strings.HasSuffix(f.Name, "-"+end) {
				return true
			}
		}
		return false
	}
	switch {
	case f.Bool:
		return "bool"
	case ends("file", "dir", "socket"):
		return "path"
	case ends("jitter", "expiry"):
		return "duration"
	case ends("schedule"):
		return "schedule"
	case ends("id", "account", "impersonate"):
		return "id"
	case ends("listen"):
		return "address"
	case strings.HasPrefix(f.Name, "endpoint-"):
		return "address"
	case ends("command"):
		return "words"
	case ends("mode"):
		return "octal"
	}
	return "name"
}

func helpOf(f config.Flag) string {
	help := strings.ReplaceAll(f.Help, "`", "\"") // pflag takes what is in backquotes for the value's name
	if "--"+strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(f.Env, "ITR_"), "_", "-")) != "--"+f.Name {
		help += " (variable " + f.Env + ")"
	}
	return help
}

// textFlag is a flag whose value is read later; it implements pflag.Value.
type textFlag struct {
	value string
	given bool
	kind  string
}

func (t *textFlag) String() string { return t.value }

// Type implements pflag.Value.
func (t *textFlag) Type() string { return t.kind }

// Set implements pflag.Value.
func (t *textFlag) Set(value string) error {
	t.value, t.given = value, true
	return nil
}

// origin decides between a file and the flags of one token. Both at once are
// refused: nobody can know which was meant.
func (s *settings) origin(cmd *cobra.Command, a *app) (origin, error) {
	values, oneName := s.values(a)
	path, pathName := s.config.value, "--config"
	if !s.config.given {
		path, pathName = a.env(config.EnvConfig), config.EnvConfig
	} else if path == "" {
		return origin{}, usage(cmd, "--config has an empty value: name a file")
	}
	switch {
	case path != "" && oneName != "":
		return origin{}, usage(cmd, "%s describes one token, and %s names a file: give one of them, and put the rest into the file", oneName, pathName)
	case path != "":
		return origin{path: path, opt: a.load()}, nil
	case oneName != "":
		return origin{values: values, opt: a.load()}, nil
	}
	if _, err := os.Stat(defaultConfigPath); !errors.Is(err, fs.ErrNotExist) {
		return origin{path: defaultConfigPath, opt: a.load()}, nil
	}
	return origin{}, usage(cmd, "no configuration: name a file with --config (there is no %s), or describe one token with flags such as --key-file, --cloud-org-id and --file", defaultConfigPath)
}

// values are those of the token's flags and variables; name is the first that
// was given.
func (s *settings) values(a *app) (values map[string]string, name string) {
	values = map[string]string{}
	for _, f := range s.token {
		given := ""
		if f.given {
			values[f.Name], given = f.value, "--"+f.Name
		} else if value := a.env(f.Env); value != "" {
			values[f.Env], given = value, f.Env
		}
		if name == "" {
			name = given
		}
	}
	return values, name
}
