package probe

import (
	"strings"
	"testing"
	"unicode/utf8"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/scrub"
)

// FuzzAnswer: no body of Tracker's is a verdict that its parts do not bear
// out, and what is said of it is short, of one line, and without the token.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"uid":11,"login":"bot"}`, `{"errors":{},"errorMessages":["no"],"statusCode":401}`, ``, `{}`, `[]`, `null`, `{"uid":null}`,
		`{"errorMessages":null,"statusCode":null}`, `{"statusCode":"401"}`, `{"errorMessages":[[]]}`, `<html>`, "{\"uid\":1}\x00",
		`{"login":"t1.9euelZqVyZ6JzcqOnMqZ.sig"}`, `{"errorMessages":["a\u0000\u001b[0m secret-secret-secret"]}`, `{"uid":1e999}`, `{"error":{"message":1}}`,
	} {
		for _, status := range []int{200, 401, 403, 429, 503} {
			f.Add(status, []byte(body), "secret-secret-secret")
		}
	}
	p := &tracker{field: "cloud_org_id", org: "bpf"}
	f.Fuzz(func(t *testing.T, status int, body []byte, secret string) {
		verdict, say := p.judge(answer{status: status, body: body}, secret)
		want := map[int]refresher.Verdict{200: refresher.Accepted, 401: refresher.RejectedToken, 403: refresher.RejectedAccess}
		if verdict != refresher.Unknown && verdict != want[status] {
			t.Errorf("%d is %v", status, verdict)
		}
		if verdict == refresher.Accepted && !strings.Contains(string(body), "uid") && !strings.Contains(string(body), "login") && !strings.Contains(string(body), `\u`) {
			t.Errorf("accepted %q", body)
		}
		for _, s := range []string{say, scrub.Message(apiMessage(body), secret)} {
			if strings.ContainsAny(s, "\n\r\x1b") || len(s) > 600 || !utf8.ValidString(s) {
				t.Errorf("not a short line: %q", s)
			}
			if len(secret) >= 12 && !strings.Contains("[redacted]", secret) && !fixed(secret) && strings.Contains(s, secret) {
				t.Errorf("%q holds %q", s, secret)
			}
		}
	})
}

// fixed tells whether our own words may hold the secret.
func fixed(secret string) bool {
	return strings.ContainsAny(secret, " ,:;()'[]…")
}
