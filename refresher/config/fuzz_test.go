package config

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParse checks of any input that reading it neither panics nor hangs, that
// each error is an Errors with a place in the text, and that no error holds
// another line than its own.
func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add(strings.ReplaceAll(good, "\n", "\r\n"))
	for _, m := range readMistakes(f) {
		f.Add(unescape(m.input))
	}
	for _, seed := range []string{
		"a: &a [*a]", "<<: *x", "? a\n: b", "[[[[", "a: |\n", "- - - - -", "\ttokens:", "%YAML 1.2\n---\n", "tokens:\n- &a {<<: *a}",
		"tokens: &t\n- name: &n bot\n  source: {<<: [{metadata: }]}\n", "a: \"\\u12", "'", "&a", "*a", "!!map {}", "a: b\n\n---\n", "{a, b}: c", "[a]: b",
		"tokens:\n- {name: a, source: {metadata: ~}, sinks: [{file: {path: \"/a\\nb\"}}]}", "a:\n- b\n c", "tokens: [{}, {}, []]", "<<: {<<: {<<: 1}}", "<<: [1, a]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("fuzz.yaml", []byte(text), fakeKinds(), LoadOptions{LookupEnv: fakeEnv})
		if err == nil {
			return
		}
		all := Errors(nil)
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("a %T: %v", err, err)
		}
		normal, _, _ := normalize([]byte(text))
		lines := strings.Split(strings.ToValidUTF8(normal, "\ufffd"), "\n")
		for _, one := range all {
			if one.Line < 0 || one.Line > len(lines) || one.Line > 0 && one.Col < 1 {
				t.Fatalf("no such place: %+v", one)
			}
			if one.Line > 0 && one.Source != maskLine(lines, one.Line) {
				t.Fatalf("shows %q for line %d", one.Source, one.Line)
			}
			if strings.Count(one.Error(), "\n") > 2 {
				t.Fatalf("several lines are shown: %s", one)
			}
			for i, line := range lines {
				line = strings.TrimSpace(line)
				if i+1 != one.Line && len(line) >= 16 && strings.Contains(one.Problem, line) && (one.Line == 0 || !strings.Contains(lines[one.Line-1], line)) && !allowedInMessages(line) {
					t.Fatalf("line %d is in the message about line %d: %s", i+1, one.Line, one)
				}
			}
		}
	})
}

// allowedInMessages: names of tokens and keys say what a message is about, and
// our own words may happen to be in the text.
func allowedInMessages(line string) bool {
	return validName(strings.TrimSuffix(line, ":")) || strings.Contains(problemCron+problemEmpty, line)
}
