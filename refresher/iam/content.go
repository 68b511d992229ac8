package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// content is what a file or a command gave.
type content struct {
	value     string
	expiresAt time.Time     // zero: not said
	expiresIn time.Duration // zero: not said
}

// parseContent reads a raw token, or JSON as yc and the APIs write it. Errors say
// nothing of the content; they continue a sentence about it.
func parseContent(data []byte) (content, error) {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 {
		return content{}, errors.New("is empty")
	}
	if trimmed[0] != '{' {
		value, err := clean(string(data))
		return content{value: value}, err
	}
	var doc struct {
		Token     string  `json:"iam_token"`
		End       string  `json:"expires_at"`
		RESTToken string  `json:"iamToken"`
		RESTEnd   string  `json:"expiresAt"`
		Access    string  `json:"access_token"`
		Lifetime  float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return content{}, errors.New(jsonProblem(err))
	}
	raw, end := doc.Token, doc.End
	switch {
	case raw != "":
	case doc.RESTToken != "":
		raw, end = doc.RESTToken, doc.RESTEnd
	case doc.Access != "":
		raw = doc.Access
	default:
		return content{}, errors.New(`is JSON without "iam_token", "iamToken" or "access_token"`)
	}
	value, err := clean(raw)
	if err != nil {
		return content{}, errors.New("is JSON with a token that " + err.Error())
	}
	c := content{value: value}
	if end != "" {
		if c.expiresAt, err = time.Parse(time.RFC3339, end); err != nil {
			return content{}, errors.New(`is JSON with an "expires_at" that is not an RFC 3339 time like 2006-01-02T15:04:05Z`)
		}
	} else if doc.Lifetime != 0 {
		if doc.Lifetime < 0 || doc.Lifetime > maxLifetime {
			return content{}, errors.New(`is JSON with an "expires_in" that cannot be`)
		}
		c.expiresIn = time.Duration(doc.Lifetime) * time.Second
	}
	return c, nil
}

// end is when the value expires: what it says itself, or else lifetime after
// from. It is zero when nobody knows.
func (c content) end(from time.Time, lifetime time.Duration) time.Time {
	switch {
	case !c.expiresAt.IsZero():
		return c.expiresAt
	case c.expiresIn > 0:
		lifetime = c.expiresIn
	case lifetime <= 0:
		return time.Time{}
	}
	return from.Add(lifetime).Truncate(time.Second)
}
