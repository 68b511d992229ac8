package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/config"
)

// testApp is an app with these variables and no others.
func testApp(t *testing.T, env map[string]string, args ...string) *app {
	t.Helper()
	devNull, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { devNull.Close() })
	return &app{args: args, stdout: &answers{file: devNull}, stderr: devNull, lookupEnv: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}}
}

func TestConfigurationComesFromOneSideOnly(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(defaultConfigPath); err == nil {
		t.Skipf("this machine has a %s", defaultConfigPath)
	}
	for name, c := range map[string]struct {
		env        map[string]string
		args       []string
		path, flag string // what the origin has
		err        string
	}{
		"a file by flag":               {args: []string{"--config", "/c"}, path: "/c"},
		"a file by variable":           {env: map[string]string{"ITR_CONFIG": "/v"}, path: "/v"},
		"the flag before its variable": {env: map[string]string{"ITR_CONFIG": "/v"}, args: []string{"--config=/c"}, path: "/c"},
		"a token by flags":             {args: []string{"--key-file", "/k", "--file", "/t"}, flag: "key-file"},
		"a token by variables":         {env: map[string]string{"ITR_KEY_FILE": "/k"}, flag: "ITR_KEY_FILE"},
		"a flag without a value":       {args: []string{"--metadata"}, flag: "metadata"},
		"nothing":                      {err: "no configuration: name a file with --config"},
		"empty variables":              {env: map[string]string{"ITR_CONFIG": "", "ITR_KEY_FILE": ""}, err: "no configuration"},
		"the variable of clients":      {env: map[string]string{"ITR_SOCKET": "/s"}, err: "no configuration"},
		"an empty flag":                {args: []string{"--config="}, err: "--config has an empty value"},
		"both by flags":                {args: []string{"--config=/c", "--file=/t"}, err: "--file describes one token, and --config names a file"},
		"both by variables":            {env: map[string]string{"ITR_CONFIG": "/v", "ITR_FILE": "/t"}, err: "ITR_FILE describes one token, and ITR_CONFIG names a file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testApp(t, c.env)
			cmd := &cobra.Command{Use: "run"}
			s := addSettings(cmd)
			if err := cmd.ParseFlags(c.args); err != nil {
				t.Fatal(err)
			}
			from, err := s.origin(cmd, a)
			switch {
			case c.err != "":
				if err == nil || !strings.HasPrefix(err.Error(), c.err) || exitCode(err) != exitConfig {
					t.Errorf("error %v", err)
				}
			case err != nil:
				t.Error(err)
			case from.path != c.path:
				t.Errorf("path %q", from.path)
			case c.flag != "" && from.values[c.flag] == "":
				t.Errorf("values %q", from.values)
			}
		})
	}
}

func TestEveryFlagOfATokenHasItsPlaceInTheHelp(t *testing.T) {
	t.Parallel()
	a := testApp(t, nil)
	for _, name := range []string{"run", "once", "check"} {
		cmd, _, err := a.root().Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		var help strings.Builder
		writeHelp(&help, cmd)
		for _, f := range config.Flags() {
			if n := strings.Count(help.String(), " --"+f.Name+" "); n < 1 {
				t.Errorf("%s --help does not show --%s", name, f.Name)
			}
			if title := titleOf(f); title == titleDaemon && strings.HasPrefix(f.Path, "tokens[0].s") {
				t.Errorf("--%s is not about the daemon", f.Name)
			}
		}
	}
}

func TestEveryCommandHasAnExampleAndExplainsItself(t *testing.T) {
	t.Parallel()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() != "help" && (!strings.Contains(cmd.Example, program+" ") && !strings.Contains(cmd.Example, program+`"`)) {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		var help strings.Builder
		writeHelp(&help, cmd)
		for line := range strings.Lines(help.String()) {
			if len([]rune(line)) > 121 {
				t.Errorf("a line of the help of %s is too long: %s", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(testApp(t, nil).root())
}

func BenchmarkCommandTree(b *testing.B) {
	a := &app{args: []string{"version"}, lookupEnv: os.LookupEnv}
	for b.Loop() {
		a.root()
	}
}
