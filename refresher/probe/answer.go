package probe

import (
	"bytes"
	"encoding/json"
	"strings"
)

// trackerSaid is what an answer's body tells when it is Tracker's own.
type trackerSaid struct {
	account bool   // it describes an account: has uid or login
	refusal bool   // it is Tracker's error body
	login   string // of the account
	message string // of the refusal
}

// readTracker reads a body whatever it is: an account
// (https://yandex.ru/support/tracker/en/get-user-info), an error body
// {"errors":{},"errorMessages":["…"],"statusCode":401}, or something else.
func readTracker(body []byte) trackerSaid {
	var said trackerSaid
	fields := object(body)
	said.login = text(fields["login"])
	said.account = said.login != "" || text(fields["uid"]) != ""
	var messages []any
	if raw, ok := fields["errorMessages"]; ok && raw[0] == '[' && json.Unmarshal(raw, &messages) == nil {
		said.refusal = true
		var words []string
		for _, m := range messages {
			if s, ok := m.(string); ok && s != "" {
				words = append(words, s)
			}
		}
		said.message = strings.Join(words, "; ")
	}
	if raw, ok := fields["statusCode"]; ok {
		var n json.Number
		said.refusal = said.refusal || raw[0] != '"' && json.Unmarshal(raw, &n) == nil && n != ""
	}
	return said
}

// apiMessage finds what an API of unknown make says in a JSON error body, in
// the customary places.
func apiMessage(body []byte) string {
	fields := object(body)
	for _, name := range [...]string{"error_description", "message", "detail", "title", "error"} {
		if raw, ok := fields[name]; ok && raw[0] == '"' {
			if s := text(raw); s != "" {
				return s
			}
		}
	}
	if m := readTracker(body).message; m != "" {
		return m
	}
	if nested, ok := fields["error"]; ok && nested[0] == '{' {
		return text(object(nested)["message"])
	}
	return ""
}

// object returns the fields of a body that is one JSON object, else nil. The
// values are not empty and begin with their first significant byte.
func object(body []byte) map[string]json.RawMessage {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '{' {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return nil
	}
	return fields
}

// text returns a string or a number as text, and nothing for anything else.
func text(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	if raw[0] == '"' {
		var s string
		_ = json.Unmarshal(raw, &s)
		return s
	}
	var n json.Number
	_ = json.Unmarshal(raw, &n)
	return n.String()
}
