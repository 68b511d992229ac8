package iam

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"iam-token-refresher/refresher/httpanswer"
)

// A clock that is this far off makes IAM refuse signatures that are fine.
const skewTolerance = 30 * time.Second

const clockCheckTimeout = 3 * time.Second

// isSkewed tells whether the local time is too far from the server's.
func isSkewed(local, server time.Time) bool {
	return !server.IsZero() && local.Sub(server).Abs() > skewTolerance
}

// skewText says how wrong the clock is; "" when it is right or nobody knows.
func (c *Cloud) skewText(serverTime time.Time) string {
	now := c.now()
	if !isSkewed(now, serverTime) {
		return ""
	}
	off, direction := now.Sub(serverTime), "ahead of"
	if off < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("your clock is %s %s Yandex", span(off), direction)
}

// askTime reads the Date of IAM's address. It returns the zero time when there
// is none to be had: the answer only makes an error more helpful.
func (c *Cloud) askTime(ctx context.Context) time.Time {
	ctx, cancel := context.WithTimeout(ctx, clockCheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.endpoints.IAM+"/", nil)
	if err != nil {
		return time.Time{}
	}
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return time.Time{}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return httpanswer.Date(resp.Header)
}
