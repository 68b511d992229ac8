package config

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSecretsAreMaskedInShownLinesAndColumnsStay(t *testing.T) {
	t.Parallel()
	const secret = "S3cret"
	long := strings.Repeat(secret, 8)
	for name, c := range map[string]struct {
		text string
		line int
		keep string // what must stay readable
	}{
		"an IAM token":                       {"file: t1." + long + "." + long, 1, "file: "},
		"an IAM token in quotes":             {`file: "t1.` + long + `"`, 1, `file: "`},
		"an OAuth token":                     {"x: y0_" + secret + "aaaa", 1, "x: "},
		"a JWT":                              {"x: [eyJ" + long + ".eyJ" + long + "." + long + "]", 1, "x: ["},
		"an API key":                         {"x: AQVN" + long, 1, "x: "},
		"a word after Bearer":                {"x: Bearer " + secret + "-more", 1, "x: Bearer"},
		"something random":                   {"x: a" + long, 1, "x: "},
		"something random in a path":         {"x: /run/" + long + "/file", 1, "/file"},
		"a password in a URL":                {"x: https://me:" + secret + "@example.com/x", 1, "@example.com/x"},
		"a key in a query":                   {"url: \"https://example.com/x?key=" + secret + "&n=1\" # more", 1, "https://example.com/x?"},
		"a key in a query, not quoted":       {"http: {url: https://me@example.com/?" + secret + ", timeout: 5}", 1, "timeout: 5}"},
		"a password":                         {"password: " + secret, 1, "password:"},
		"a quoted key in JSON":               {`{"client_secret": "` + secret + `"}`, 1, `{"client_secret":`},
		"text below a password":              {"password: >\n  " + secret, 2, ""},
		"a line of a PEM file":               {"x: |\n  -----BEGIN PRIVATE KEY-----\n  " + long + "/" + long, 3, ""},
		"a header":                           {"http:\n  headers:\n    X-Auth: " + secret, 3, "    X-Auth:"},
		"a header's second line":             {"http:\n  headers:\n    X-Auth: >\n      " + secret, 4, ""},
		"headers on one line":                {"http: {url: https://example.com, headers: {X-Auth: " + secret + "}}", 1, "https://example.com, headers:"},
		"headers over lines without indents": {"{http: {headers: {\nX-Auth: " + secret + "}}}", 2, "X-Auth:"},
		"headers with a template before":     {"headers: {A: '{{.Value}}',\nX-Auth: " + secret + "}", 2, "X-Auth:"},
	} {
		lines := strings.Split(c.text, "\n")
		shown := maskLine(lines, c.line)
		if strings.Contains(shown, secret) || !strings.Contains(shown, c.keep) {
			t.Errorf("%s: shown as %s", name, shown)
		}
		if utf8.RuneCountInString(shown) != utf8.RuneCountInString(lines[c.line-1]) {
			t.Errorf("%s: the length changed: %s", name, shown)
		}
	}
}

func TestWhatIsNoSecretStaysReadable(t *testing.T) {
	t.Parallel()
	for _, line := range strings.Split(good, "\n") {
		if got := maskLine([]string{line}, 1); got != line {
			t.Errorf("got %s\nof %s", got, line)
		}
	}
	for _, text := range []string{
		"oauth_token: {file: /etc/oauth.token}", "source: {oauth: {client_id: 5f1e}}", "one of oauth, oauth_token", "YC_TOKEN: \"{{.Value}}\"", "token: /run/secrets/token",
		"name: a-name-of-more-than-thirty-two-letters-and-2-digits", "path: ${CREDENTIALS_DIRECTORY}/a.b-c_d",
		"  headers_file: /etc/x", "url: https://api.tracker.yandex.net/v3/myself", "service_account_id: ajepg0mjt06siuj00000",
		"headers: {}\nurl: https://example.com", "headers: {X: '{{.Value'}\naccepted: [200]",
	} {
		lines := strings.Split(text, "\n")
		last := lines[len(lines)-1]
		if got := maskLine(lines, len(lines)); got != last {
			t.Errorf("got %s\nof %s", got, last)
		}
	}
}

func TestALongLineIsCutAroundTheMistake(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("ä", 1000) + "!" + strings.Repeat("ö", 1000)
	got := Error{File: "f", Line: 7, Col: 1001, Problem: "p", Source: line}.Error()
	parts := strings.Split(got, "\n")
	if len(parts) != 3 || utf8.RuneCountInString(parts[1]) > shownWidth+12 {
		t.Fatalf("got %s", got)
	}
	caret := strings.Index(parts[2], "^")
	if r := []rune(parts[1])[caret]; r != '!' {
		t.Errorf("the caret points to %q in\n%s", r, got)
	}
}
