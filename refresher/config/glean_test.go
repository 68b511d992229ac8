package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// gleaned are the tokens with their sinks, and the status listener.
func gleaned(t *testing.T, text string) (tokens []string, listen string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Glean(path, fakeKinds(), LoadOptions{LookupEnv: fakeEnv})
	for _, token := range c.Tokens {
		for _, s := range token.Sinks {
			if s.Options != nil {
				token.Name += " " + s.Kind
			}
		}
		tokens = append(tokens, token.Name)
	}
	return tokens, c.Status.Listen
}

func TestWhatIsWellWrittenIsGleanedBesideMistakes(t *testing.T) {
	t.Parallel()
	const listener = "127.0.0.1:9117"
	all := []string{"bot file env_file socket metadata"}
	for name, c := range map[string]struct {
		text   string
		tokens []string
		listen string
	}{
		"nothing is wrong":                    {good, all, listener},
		"an unknown section":                  {good + "bogus: 1\n", all, listener},
		"a section twice":                     {good + "status: {listen: \":1\"}\n", all, listener},
		"a hundred unknown sections":          {strings.Repeat("bogus: 1\n", maxErrors) + good, all, listener},
		"a quote that is not closed":          {good + "ca_file: \"/x\n", all, listener},
		"a section that is no YAML":           {"log: {level: ]\n" + strings.Replace(good, "log:", "x-log:", 1), all, listener},
		"a second document":                   {good + "---\nstate_dir: /x\n", all, listener},
		"an option that does not exist":       {with(t, "schedule:", "shedule:"), all, listener},
		"a sink with a mistake":               {with(t, "path: /run/iam-token-refresher/bot.env", "path: bot.env"), []string{"bot file socket metadata"}, listener},
		"tokens that are no YAML":             {strings.Replace(good, "tokens:", "tokens: }", 1), nil, listener},
		"a listener that is none":             {strings.Replace(good, listener, "here", 1), all, ""},
		"dashes that are not indented":        {"tokens:\n- {name: a, sinks: [{file: {path: /a}}]}\n# and\n- {name: b, sinks: [{file: {path: /b}}]}\nnow what", []string{"a file", "b file"}, ""},
		"a byte in a section that is no text": {good + "ca_file: \xff\n", all, listener},
		"nothing":                             {"", nil, ""},
	} {
		tokens, listen := gleaned(t, c.text)
		if !slices.Equal(tokens, c.tokens) || listen != c.listen {
			t.Errorf("%s: %q and %q", name, tokens, listen)
		}
	}
}
