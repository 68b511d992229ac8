package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/mistakes.txt with the messages as they are now")

const mistakesFile = "testdata/mistakes.txt"

// mistake is a part of the file: a title after "=== ", a configuration, and
// below a line ">>>" the complete message.
type mistake struct{ title, input, want string }

func readMistakes(t testing.TB) []mistake {
	t.Helper()
	text, err := os.ReadFile(mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []mistake
	for part := range strings.SplitSeq("\n"+string(text), "\n=== ") {
		title, rest, ok := strings.Cut(part, "\n")
		if !ok || title == "" {
			continue
		}
		input, want, _ := strings.Cut(rest, ">>>\n")
		all = append(all, mistake{title, input, strings.TrimRight(want, "\n")})
	}
	return all
}

func TestEachMistakeHasItsOwnMessageAndShowsItsLineAlone(t *testing.T) {
	t.Parallel()
	all := readMistakes(t)
	if len(all) < 60 {
		t.Fatalf("only %d mistakes in %s", len(all), mistakesFile)
	}
	var rewritten strings.Builder
	for _, m := range all {
		_, err := parse(unescape(m.input))
		got := ""
		if err == nil {
			t.Errorf("%s: no error", m.title)
		} else {
			got = err.Error()
		}
		rewritten.WriteString("=== " + m.title + "\n" + m.input + ">>>\n" + got + "\n\n")
		if !*update && got != m.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", m.title, got, m.want)
		}
	}
	if *update {
		if err := os.WriteFile(mistakesFile, []byte(strings.TrimRight(rewritten.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// unescape makes what a text file cannot show.
func unescape(s string) string {
	return strings.NewReplacer(`<TAB>`, "\t", `<NUL>`, "\x00", `<BYTE>`, "\xff", `<CR>`, "\r",
		`<KEYS>`, strings.Repeat("k: 1, ", maxKeys+1), `<LONG>`, strings.Repeat("x", 300), `<DEEP>`, strings.Repeat("[", 40)).Replace(s)
}

func TestNoMessageIsUsedForTwoDifferentMistakes(t *testing.T) {
	t.Parallel()
	titles := map[string]string{}
	for _, m := range readMistakes(t) {
		if strings.Contains(m.title, "(like ") {
			continue
		}
		message := m.want
		if first, again := titles[message]; again {
			t.Errorf("%q and %q are told alike: %s", first, m.title, message)
		}
		titles[message] = m.title
	}
}
