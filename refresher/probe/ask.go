package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/httpanswer"
)

// maxBody is how much of an answer is read: Tracker's are about 1 KB.
const maxBody = 64 << 10

// answer is what came back, as far as it was read.
type answer struct {
	status int
	header http.Header
	body   []byte
	long   bool // there was more than maxBody
	at     time.Time
}

// ask makes one request. When there is no whole answer, why says so in words.
func ask(ctx context.Context, client *http.Client, u *url.URL, header http.Header, secrets []string) (a answer, why string) {
	began := time.Now()
	req := (&http.Request{
		Method:     http.MethodGet,
		URL:        u,
		Host:       header.Get("Host"),
		Header:     header,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}).WithContext(ctx)
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, networkTrouble(ctx, err, began, secrets)
	}
	defer func() { _ = resp.Body.Close() }()
	// Reading to the end lets the connection be used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		why := networkTrouble(ctx, err, began, secrets)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			why = "the answer broke off"
		}
		return answer{}, fmt.Sprintf("%d, but %s", resp.StatusCode, why)
	}
	a = answer{status: resp.StatusCode, header: resp.Header, body: body, at: time.Now()}
	if len(body) > maxBody {
		a.body, a.long = body[:maxBody], true
	}
	return a, ""
}

// finding is what every answer tells, whatever the verdict.
func (a answer) finding() refresher.Finding {
	return refresher.Finding{
		Verdict:    refresher.Unknown,
		Throttled:  a.status == http.StatusTooManyRequests,
		ServerTime: httpanswer.Date(a.header),
		RetryAfter: httpanswer.RetryAfter(a.header, a.at),
	}
}

// kind describes a body without showing it.
func (a answer) kind() string {
	mediaType, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || len(mediaType) > 40 {
		mediaType = "of no known type"
	}
	switch {
	case a.long:
		return fmt.Sprintf("%s, more than %d KB", mediaType, maxBody>>10)
	case len(a.body) == 0:
		return "an empty body"
	}
	return fmt.Sprintf("%s, %d bytes", mediaType, len(a.body))
}

// isPage tells whether people, not programs, are meant to read the body.
func (a answer) isPage() bool {
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return mediaType == "text/html" || mediaType == "application/xhtml+xml"
}

// redirect describes where a 3xx points to.
func (a answer) redirect() string {
	where := "elsewhere"
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Host != "" {
		where = "to " + u.Host
	}
	return where
}

// validHeaderValue follows RFC 9110, 5.5, without obs-fold.
func validHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
