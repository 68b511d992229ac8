package config

import "testing"

// What the command line says of the program is named as it says it, whether a
// file or flags describe the rest, and only what is wrong there.
func TestMistakesOfAProgramNameTheFlagOrTheKey(t *testing.T) {
	t.Parallel()
	const (
		alone = "tokens: [{name: bot, source: {metadata: {}}, probe: none}]\n"
		two   = "tokens: [{name: a, source: {metadata: {}}, probe: none}, {name: b, source: {metadata: {}}, probe: none}]\n"
	)
	env := func(list ...string) func(*Exec) {
		return func(e *Exec) {
			e.Command, e.Env = []string{"true"}, map[string]string{}
			for i := 0; i < len(list); i += 2 {
				e.Env[list[i]] = list[i+1]
			}
		}
	}
	for name, c := range map[string]struct {
		file   string // flags, if empty
		change func(*Exec)
		want   string
	}{
		"a field without its end": {"", env("A", "{{.Value}"), "--env A: holds {{ without }}: write a field as {{.Value}}"},
		"two of them": {
			"", env("A", "{{.Value}", "B", "{{.Value", "C", "{{.Value}}"),
			"--env A: holds {{ without }}: write a field as {{.Value}}\n\n--env B: holds {{ without }}: write a field as {{.Value}}",
		},
		"no field at all":       {"", env("A", "1"), `--env: names no value of token "default", which has no sinks, so that nobody would get it: write for example 'YC_TOKEN={{.Value}}'`},
		"no variable":           {"", func(e *Exec) { e.Command = []string{"true"} }, "flags: sinks: is missing"},
		"nobody's field":        {"", env("A", "{{.bot.Value}}"), `--env A: there is no token "bot"; possible here: default`},
		"no program":            {"", func(e *Exec) { e.Command, e.Env = []string{""}, map[string]string{"A": "{{.Value}}"} }, "PROGRAM: names no program"},
		"no time to end":        {"", func(e *Exec) { env("A", "{{.Value}}")(e); e.StopTimeout = 0 }, "--stop-timeout: must be more than 0 and at most 24h"},
		"a flag beside a file":  {alone + `exec: {command: ["true"], env: {A: "{{.Value}}"}}`, env("A", "{{.Value}"), "--env A: holds {{ without }}: write a field as {{.Value}}"},
		"a token that is left":  {two, env("A", "{{.a.Value}}"), `--env: names no value of token "b", which has no sinks, so that nobody would get it: write for example 'YC_TOKEN={{.b.Value}}'`},
		"a field in the file":   {alone + "exec:\n  command: [/bin/true]\n  env:\n    A: \"{{.Value}\"\n", nil, "bot.yaml:5:8: exec.env.A: holds {{ without }}: write a field as {{.Value}}\n    5 |     A: \"{{.Value}\"\n      |        ^"},
		"no field in the file":  {alone + "exec: {command: [/bin/true], env: {A: b}}\n", nil, "bot.yaml:1:10: token \"bot\": sinks: is missing, and no variable of exec.env holds {{.Value}}\n    1 | " + alone + "      |          ^"},
		"the command of a file": {alone + "exec: {command: [\"\"], env: {A: \"{{.Value}}\"}}\n", func(e *Exec) { e.OnExit = "restart" }, "bot.yaml:2:17: exec.command: names no program\n    2 | exec: {command: [\"\"], env: {A: \"{{.Value}}\"}}\n      |                 ^"},
		"an escape in a name":   {"", env("A\x1b", "{{"), "--env A : holds {{ without }}: write a field as {{.Value}}"},
	} {
		opt := LoadOptions{LookupEnv: fakeEnv, Exec: c.change}
		var err error
		if c.file == "" {
			_, err = FromFlags(map[string]string{"metadata": "true", "no-probe": "true", "name": "default"}, fakeKinds(), opt)
			_, unnamed := FromFlags(map[string]string{"metadata": "true", "no-probe": "true"}, fakeKinds(), opt)
			if err == nil || unnamed == nil || err.Error() != unnamed.Error() {
				t.Errorf("%s: with a name %v\nwithout %v", name, err, unnamed)
			}
		} else {
			_, err = Parse("bot.yaml", []byte(c.file), fakeKinds(), opt)
		}
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, c.want)
		}
	}
}
