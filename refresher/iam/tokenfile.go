package iam

import (
	"context"
	"errors"
	"time"

	"iam-token-refresher/refresher"
)

// TokenFileOptions is the source token_file: a file that somebody else keeps
// fresh, with a raw token or JSON.
type TokenFileOptions struct {
	Path     string        `yaml:"path" doc:"file that somebody else writes: a raw token, or JSON with iam_token and expires_at" check:"required,path"`
	Lifetime time.Duration `yaml:"lifetime" doc:"how long a token lives after the file was written, when the file does not say"`
}

// Validate implements the check of the options.
func (o TokenFileOptions) Validate() error {
	var errs []error
	if o.Path == "" {
		errs = append(errs, missing("path", "/run/other/iam.token"))
	}
	if o.Lifetime < 0 {
		errs = append(errs, &refresher.Invalid{Field: "lifetime", Problem: "is negative; for example 12h"})
	}
	return errors.Join(errs...)
}

// Rebuild lists the files that New reads: none.
func (o TokenFileOptions) Rebuild() []string { return nil }

// Inputs lists the files whose change should start a refresh.
func (o TokenFileOptions) Inputs() []string { return []string{o.Path} }

// New makes the source; the file is not read before the first mint.
func (o TokenFileOptions) New(c *Cloud) (refresher.Source, error) {
	return &fileSource{cloud: c, options: o}, nil
}

type fileSource struct {
	cloud   *Cloud
	options TokenFileOptions
}

func (s *fileSource) Identity() string {
	return "token_file " + s.options.Path + withLifetime(s.options.Lifetime)
}

// withLifetime keeps apart what must not share a mint: the lifetime decides
// about the expiry.
func withLifetime(lifetime time.Duration) string {
	if lifetime <= 0 {
		return ""
	}
	return " (lifetime " + lifetime.String() + ")"
}

func (s *fileSource) Mint(ctx context.Context) (refresher.Minted, error) {
	a := attempt{what: "read token from " + s.options.Path}
	if t, ok := a.outOfTime(ctx, "the file"); ok {
		return refresher.Minted{}, a.failed(t)
	}
	data, info, err := readFile("token file", s.options.Path)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: err.Error()})
	}
	const remedy = "check who writes it"
	got, err := parseContent(data)
	if err != nil {
		return refresher.Minted{}, a.failed(trouble{problem: "its content " + err.Error(), remedy: remedy})
	}
	end := got.end(info.ModTime(), s.options.Lifetime)
	if now := s.cloud.now(); !end.IsZero() && !end.After(now) {
		return refresher.Minted{}, a.failed(trouble{
			problem: "the token in it expired " + span(now.Sub(end)) + " ago",
			remedy:  "whoever writes it has stopped renewing it",
		})
	}
	return s.cloud.minted(a, got.value, end, time.Time{})
}
