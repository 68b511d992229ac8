package redact_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/redact"
)

const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// random makes a word that looks like no known secret.
func random(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func rng(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestLiveValueIsReplacedWhereverItStands(t *testing.T) {
	t.Parallel()
	r := rng(t)
	secret := "new-format:" + random(r, 300) + "=="
	var f redact.Filter
	f.Add(refresher.NewValue(secret))
	quoted, err := json.Marshal(map[string]string{"token": secret})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"alone":                 {secret, "[redacted]"},
		"in a sentence":         {"got " + secret + ", thanks", "got [redacted], thanks"},
		"inside a word":         {"x" + secret + "y", "x[redacted]y"},
		"twice":                 {secret + " " + secret, "[redacted] [redacted]"},
		"twice without a gap":   {secret + secret, "[redacted]"},
		"in JSON":               {string(quoted), `{"token":"[redacted]"}`},
		"in a URL":              {"https://h/?t=" + url.QueryEscape(secret), "https://h/?t=new-format%3A[redacted]%3D%3D"},
		"cut at its end":        {"answer: " + secret[:60] + "…", "answer: [redacted]…"},
		"cut at both ends":      {"…" + secret[100:140] + "…", "…[redacted]…"},
		"its end alone":         {"…" + secret[len(secret)-24:], "…[redacted]"},
		"over two lines":        {secret[:150] + "\n" + secret[150:], "[redacted]\n[redacted]"},
		"with a letter changed": {secret[:150] + "#" + secret[151:], "[redacted]#[redacted]"},
		"not at all":            {"a quiet day", "a quiet day"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := f.String(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestEveryLengthOfValueIsReplaced(t *testing.T) {
	t.Parallel()
	r := rng(t)
	for n := redact.MinValue; n < 200; n++ {
		secret := random(r, n)
		var f redact.Filter
		f.Add(refresher.NewValue(secret))
		if got := f.String("<" + secret + ">"); got != "<[redacted]>" {
			t.Errorf("%d bytes: got %q", n, got)
		}
	}
}

func TestSecretsAreReplacedByTheirShape(t *testing.T) {
	t.Parallel()
	r := rng(t)
	var f redact.Filter
	iam := "t1." + random(r, 120) + "." + random(r, 86)
	jwt := "eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhamUifQ." + random(r, 86)
	pem := "-----BEGIN PRIVATE KEY-----\n" + random(r, 64) + "\n" + random(r, 64) + "\n-----END PRIVATE KEY-----\n"
	for name, c := range map[string]struct{ text, want string }{
		"IAM token":            {"token " + iam + ".", "token [redacted]"},
		"IAM token, cut":       {iam[:30] + "…", "[redacted]…"},
		"IAM token, padded":    {"t1." + random(r, 40) + "==." + random(r, 86) + "==, ok", "[redacted], ok"},
		"IAM token in a URL":   {"t%3D" + iam, "t%3D[redacted]"},
		"IAM token in a quote": {`\n` + iam, `\n[redacted]`},
		"OAuth token":          {"OAuth y0_" + random(r, 55), "OAuth [redacted]"},
		"refresh token":        {"rt1." + random(r, 55), "[redacted]"},
		"session":              {"s1." + random(r, 55), "[redacted]"},
		"cookie":               {"c1." + random(r, 55), "[redacted]"},
		"API key":              {"Api-Key AQVN" + random(r, 36), "Api-Key [redacted]"},
		"JWT":                  {"jwt=" + jwt, "jwt=[redacted]"},
		"JWT without its end":  {jwt[:36], "[redacted]"},
		"PEM":                  {"key: " + pem + "rest", "key: [redacted]\nrest"},
		"PEM in JSON":          {strings.ReplaceAll(pem, "\n", `\n`), `[redacted]\n`},
		"PEM of RSA":           {strings.ReplaceAll(pem, "PRIVATE", "RSA PRIVATE"), "[redacted]\n"},
		"PEM without its end":  {"key: " + pem[:80], "key: [redacted]"},
		"two of them":          {iam + " and " + jwt, "[redacted] and [redacted]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := f.String(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOrdinaryTextIsLeftAlone(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	r := rng(t)
	for range 100 {
		f.Add(refresher.NewValue("t1." + random(r, 300)))
	}
	for _, text := range []string{
		"",
		"t1.",
		"published version 12 of bot, next refresh in 41 min",
		"org bpfaidqca8vd0m5jl3fp, account ajepg0mjt06siua65usm",
		"host1.a-rather-long-label-of-a-host.internal, /srv1.a_rather_long_name_of_a_directory",
		"host1.ru-central1.internal:443, s1.mds.yandex.net, t1.example.com",
		"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"lineage 0f8fad5b-d9cb-469f-a165-70867728950e",
		"https://api.tracker.yandex.net/v3/myself",
		"/run/iam-token-refresher/bot_1.token",
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
		"----------------------------------------",
		"library_0_with_a_very_long_name_indeed",
		"eyJhbGciOiJQUzI1NiJ9 is a header alone",
	} {
		if got := f.String(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestValueIsLookedForUntilItsLastRemove(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	const secret = "an-opaque-value-of-two-tokens"
	v := refresher.NewValue(secret)
	f.Add(v)
	f.Add(v)
	f.Remove(v)
	if got := f.String(secret); got != redact.Marker {
		t.Errorf("after one of two removes: %q", got)
	}
	f.Remove(v)
	if got := f.String(secret); got != secret {
		t.Errorf("after the last remove: %q", got)
	}
	f.Remove(v)
	f.Add(v)
	if got := f.String(secret); got != redact.Marker {
		t.Errorf("added again after a remove too many: %q", got)
	}
}

func TestTheTwoNewestValuesOfAnOwnerAreRemembered(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	secret := func(n int) string { return fmt.Sprintf("%d-opaque-value-of-bot", n) }
	for n := range 4 {
		f.Remember("bot", refresher.NewValue(secret(n)))
		f.Remember("bot", refresher.NewValue(secret(n)))
	}
	f.Remember("other", refresher.NewValue(secret(3)))
	for n, known := range []bool{false, false, true, true} {
		if got := f.String(secret(n)) == redact.Marker; got != known {
			t.Errorf("value %d: known %v, want %v", n, got, known)
		}
	}
}

func TestTenThousandValuesOfOneBeginningAreAllFound(t *testing.T) {
	t.Parallel()
	r := rng(t)
	begin := "t2." + random(r, 120) + "."
	secrets := make([]string, 10_000)
	var f redact.Filter
	for i := range secrets {
		secrets[i] = begin + random(r, 86)
		f.Add(refresher.NewValue(secrets[i]))
	}
	for _, s := range secrets {
		if got := f.String("x " + s + " y"); got != "x [redacted] y" {
			t.Fatalf("got %q", got)
		}
	}
	for _, s := range secrets[:9_990] {
		f.Remove(refresher.NewValue(s))
	}
	for _, s := range secrets[9_990:] {
		if got := f.String("x " + s + " y"); got != "x [redacted] y" {
			t.Fatalf("after the others are gone: got %q", got)
		}
	}
	gone := secrets[0][len(begin):]
	if got := f.String(gone); got != gone {
		t.Errorf("a removed value is still looked for: %q", got)
	}
}

func TestValuesThatDifferOnlyBetweenTheirEndsAreAllFound(t *testing.T) {
	t.Parallel()
	secrets := make([]string, 40)
	var f redact.Filter
	for i := range secrets {
		secrets[i] = fmt.Sprintf("the-begin-%02d-%02d-the-end-", i, i)
		f.Add(refresher.NewValue(secrets[i]))
	}
	for i := range secrets {
		for _, s := range secrets[i:] {
			if got := f.String("x " + s + " y"); got != "x [redacted] y" {
				t.Fatalf("%d gone: got %q", i, got)
			}
		}
		f.Remove(refresher.NewValue(secrets[i]))
		if got := f.String(secrets[i]); got != secrets[i] {
			t.Fatalf("a removed value is still looked for: %q", got)
		}
	}
}

func TestValuesComeAndGoWhileTextIsFiltered(t *testing.T) {
	t.Parallel()
	var f redact.Filter
	const stays = "an-opaque-value-that-stays"
	f.Add(refresher.NewValue(stays))
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for n := range 300 {
				v := refresher.NewValue(fmt.Sprintf("%d-opaque-value-%d", n%7, g%2))
				f.Add(v)
				if got := f.String(stays); got != redact.Marker {
					t.Errorf("got %q", got)
				}
				f.Remove(v)
			}
		})
	}
	all.Wait()
}

func TestOrdinaryTextCostsNoAllocation(t *testing.T) {
	var f redact.Filter
	f.Add(refresher.NewValue("an-opaque-value-of-some-length"))
	allocs := testing.AllocsPerRun(100, func() { _ = f.String(ordinary) })
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

const ordinary = `published version 12 of "bot": accepted by Tracker at api.tracker.yandex.net, expires in 11 h 59 min, next refresh in 41 min, written to file:/run/iam-token-refresher/bot.token and 3 more`

func BenchmarkString(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 10_000} {
		var f redact.Filter
		var secret string
		for range n {
			secret = "t1.9euelZq" + random(r, 120) + "." + random(r, 86)
			f.Add(refresher.NewValue(secret))
		}
		b.Run(fmt.Sprintf("ordinary/values=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(ordinary)))
			b.ReportAllocs()
			for b.Loop() {
				_ = f.String(ordinary)
			}
		})
		if n > 0 {
			text := ordinary + " " + secret
			b.Run(fmt.Sprintf("secret/values=%d", n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = f.String(text)
				}
			})
		}
	}
}

// FuzzNoRegisteredValueSurvives registers two values and looks for them in a
// text made of both.
func FuzzNoRegisteredValueSurvives(f *testing.F) {
	f.Add("an-opaque-value", "another-opaque-value", "before ", " between ", " after")
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", "aaaa", "a", "aaaaaaa")
	f.Add("abababababababababababab", "babababababa", "ab", "", "ba")
	f.Add("12345678", "5678123", "1234", "", "5678")
	f.Add("\x00\xff\xfe\x00\x00\x00\x00\x00\x00", "    ", "\n", "t1.", "eyJ")
	f.Fuzz(func(t *testing.T, one, two, before, between, after string) {
		var filter redact.Filter
		for range 10 { // the same windows at many values
			filter.Add(refresher.NewValue(one))
		}
		filter.Add(refresher.NewValue(two))
		filter.Add(refresher.NewValue(one + two))
		filter.Remove(refresher.NewValue(one + two))
		text := before + one + between + two + after + one + two
		got := filter.String(text)
		for _, secret := range []string{one, two} {
			// A value may be made anew of the marker and its neighbours.
			if len(secret) < redact.MinValue || strings.ContainsAny(secret, redact.Marker) {
				continue
			}
			if strings.Contains(got, secret) {
				t.Errorf("%q holds %q", got, secret)
			}
		}
	})
}
