package iam

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSecretsAreTakenOutByShape(t *testing.T) {
	t.Parallel()
	jwt := "eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhamUifQ.c2lnbmF0dXJl"
	base64Line := "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
	for in, want := range map[string]string{
		"bad token " + secret:                      "bad token [removed]",
		"token=" + secret + ": no":                 "token=[removed]: no",
		`{"jwt":"` + jwt + `"}`:                    `{"jwt":"[removed]"}`,
		"Bearer t1.abcdefgh==.ijklmnop==, sorry":   "Bearer [removed], sorry",
		"y0_AgAAAAAabcdefghijklmnopqrstuv":         "[removed]",
		"rt1.abcdefgh s1.abcdefgh c1.abcdefgh end": "[removed] [removed] [removed] end",
		"key AQVNabcdefghijklmnop":                 "key [removed]",
		base64Line:                                 "[removed]",
		"MIIEv/IBADANBgkqhkiG9w0BAQ+FAASCBKcwggSjAgEAAoIBAQC/VJTUt9Us8cKj": "[removed]",
	} {
		if got := scrub(in); got != want {
			t.Errorf("scrub(%q) = %q, want %q", in, got, want)
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
		"list1.first c1 s1. y0_ eyJ",
	} {
		if got := scrub(s); got != s {
			t.Errorf("scrub(%q) = %q", s, got)
		}
	}
}

func TestSecretsAreTakenOutByValueBeforeTheCut(t *testing.T) {
	t.Parallel()
	odd := "not-the-shape-of-a-token"
	if got := quote("it said "+odd+" is bad", odd); got != `"it said [removed] is bad"` {
		t.Error(got)
	}
	long := strings.Repeat("x ", 95) + odd // the cut would go through it
	if got := quote(long, odd); strings.Contains(got, "not-the") {
		t.Error(got)
	}
}

func TestWordsAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strings.Repeat("ж ", 200), "a" + strings.Repeat("ж ", 200), strings.Repeat("a ", 200)} {
		if got := cut(s); len(got) > maxMessage || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
	if got := quote("two\nlines\x1b[31m"); strings.ContainsAny(got, "\n\x1b") {
		t.Errorf("%q is not fit for a terminal", got)
	}
}

func FuzzScrubLetsNoTokenThrough(f *testing.F) {
	f.Add("token ", " end")
	f.Add("a=", "/b")
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(scrub(before+" "+secret+" "+after), secret[:20]) {
			t.Errorf("a token between %q and %q got through", before, after)
		}
	})
}
