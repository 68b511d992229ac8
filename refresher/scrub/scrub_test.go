package scrub

import (
	"strings"
	"testing"
	"unicode/utf8"
)

const secret = "t1.9euelZqQkJ-Nz8mXmpnGx8bHz-3rnpWaz4qXl5qVls6Uz5GPl8mdnsvl9Pd.recognisable-value-in-tests"

func TestSecretsAreTakenOutByShape(t *testing.T) {
	t.Parallel()
	jwt := "eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhamUifQ.c2lnbmF0dXJl"
	base64Line := "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
	for in, want := range map[string]string{
		"bad token " + secret:                                              "bad token [redacted]",
		"token=" + secret + ": no":                                         "token=[redacted]: no",
		`{"jwt":"` + jwt + `"}`:                                            `{"jwt":"[redacted]"}`,
		"Bearer t1.abcdefgh==.ijklmnop==, sorry":                           "Bearer [redacted], sorry",
		"y0_AgAAAAAabcdefghijklmnopqrstuv":                                 "[redacted]",
		"rt1.abcdefgh s1.abcdefgh c1.abcdefgh end":                         "[redacted] [redacted] [redacted] end",
		"key AQVNabcdefghijklmnop":                                         "key [redacted]",
		base64Line:                                                         "[redacted]",
		"cut " + secret[3:50]:                                              "cut [redacted]",
		"two.QWxhZGRpbjpvcGVuIHN1.c2VzYW1lMTIzNDU2Nzg5":                    "[redacted]",
		"MIIEv/IBADANBgkqhkiG9w0BAQ+FAASCBKcwggSjAgEAAoIBAQC/VJTUt9Us8cKj": "[redacted]",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"",
		"The token is invalid: ajehtv5rp9m7cqs4mvj2 was deleted",
		"dial tcp 127.0.0.1:443: connect: connection refused",
		"lookup iam.api.cloud.yandex.net: no such host",
		"open /var/run/secrets/kubernetes.io/serviceaccount/token: permission denied",
		"see https://yandex.cloud/en/docs/iam/concepts/authorization/iam-token#token-format",
		"request 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		"Ошибка: нет доступа к облаку",
		"no access of ajepg0mjt06siua65usm to bpfaidqca8vd0m5jl3fp (request 0f8fad5b-d9cb-469f-a165-70867728950e)",
		"list1.first c1 s1. y0_ eyJ",
	} {
		if got := Text(s); got != s {
			t.Errorf("Text(%q) = %q", s, got)
		}
	}
}

func TestSecretsAreTakenOutByValueBeforeTheCut(t *testing.T) {
	t.Parallel()
	odd := "not-the-shape-of-a-token"
	if got := Message("it said "+odd+" is bad", odd); got != "it said [redacted] is bad" {
		t.Error(got)
	}
	for what, words := range map[string]string{"beginning": "bad " + odd[:14], "middle": "bad x" + odd[5:18] + "y", "end": "bad " + odd[9:]} {
		if got := Message(words, odd); got != "bad [redacted]" {
			t.Errorf("its %s: %s", what, got)
		}
	}
	long := strings.Repeat("x ", 95) + odd // the cut would go through it
	if got := Message(long, odd); strings.Contains(got, "not-the") {
		t.Error(got)
	}
}

func TestWordsAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strings.Repeat("ж ", 200), "a" + strings.Repeat("ж ", 200), strings.Repeat("a ", 200)} {
		if got := Message(s); len(got) > maxMessage || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
	if got := Message("two\nlines\x1b[31m"); strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("%q is not fit for a terminal", got)
	}
}

func FuzzScrubLetsNoTokenThrough(f *testing.F) {
	f.Add("token ", " end")
	f.Add("a=", "/b")
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(Text(before+" "+secret+" "+after), secret[:20]) {
			t.Errorf("a token between %q and %q got through", before, after)
		}
	})
}
