package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"iam-token-refresher/refresher/daemon"
	"iam-token-refresher/refresher/textfile"
)

// fromFile gets a value from one of the token's files; why says why not from
// the daemon.
func (g *getter) fromFile(name string, why error) (value, error) {
	t, ok := g.token(name)
	files := filesOf(t)
	if !ok || len(files) == 0 {
		return value{}, why
	}
	var problems []error
	for _, path := range files {
		v, err := readValue(path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if v.ExpiresAt != nil && !time.Now().Before(*v.ExpiresAt) {
			problems = append(problems, fmt.Errorf("the value in %s expired at %s", path, v.ExpiresAt.Local().Format(time.DateTime)))
			continue
		}
		v.Name = name
		if v.Type == "" { // a raw file does not say
			v.Type = daemon.TypeOf(&t)
		}
		say(g.stderr, fmt.Sprintf("note: %v. This is what %s holds, which may have expired since", why, path))
		return v, nil
	}
	return value{}, fmt.Errorf("get token %q: %w; and from its files: %w", name, why, errors.Join(problems...))
}

// readValue reads a file as the file sink writes it: raw, as JSON or as a
// header.
func readValue(path string) (value, error) {
	b, err := textfile.Read(path)
	if err != nil {
		return value{}, err
	}
	text := strings.TrimSpace(string(b))
	var v value
	switch first, rest, _ := strings.Cut(text, "\n"); {
	case strings.HasPrefix(text, "{"):
		if json.Unmarshal(b, &v) != nil {
			return value{}, fmt.Errorf("%s holds no JSON that we wrote", path)
		}
	case strings.HasPrefix(first, "Authorization: "):
		scheme, secret, _ := strings.Cut(strings.TrimPrefix(first, "Authorization: "), " ")
		v.Value, v.Type = secret, strings.ToLower(strings.Replace(scheme, "Bearer", "iam", 1))
	case rest == "":
		v.Value = text
	}
	if v.Value == "" || strings.ContainsAny(v.Value, " \t\n") {
		return value{}, fmt.Errorf("%s holds no value in a format that is understood: raw, json or header", path)
	}
	return v, nil
}
