package daemon

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
)

// named says whose the mistakes are that a build found, each once: a file that
// changed is many tokens' perhaps, and no line of the configuration is wrong.
func named(cfg *config.Config, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	type mistake struct {
		err    error
		tokens []string
	}
	var all []*mistake
	byText := map[string]*mistake{}
	for _, one := range joined.Unwrap() {
		m, known := byText[one.Error()]
		if !known {
			m = &mistake{err: one}
			byText[one.Error()] = m
			all = append(all, m)
		}
		var u *config.Unfit
		if errors.As(one, &u) && u.Of != nil {
			if name := ownerOf(cfg, u.Of); name != "" {
				m.tokens = append(m.tokens, strconv.Quote(name))
			}
		}
	}
	errs := make([]error, len(all))
	for i, m := range all {
		errs[i] = m.err
		var invalid *refresher.Invalid
		if errors.As(m.err, &invalid) {
			errs[i] = errors.New(invalid.Problem)
		}
		if len(m.tokens) > 0 {
			errs[i] = fmt.Errorf("token %s: %w", strings.Join(m.tokens, ", "), errs[i])
		}
	}
	return errors.Join(errs...)
}

// ownerOf is the token that the options belong to.
func ownerOf(cfg *config.Config, of config.Options) string {
	for i := range cfg.Tokens {
		t := &cfg.Tokens[i]
		if t.Source.Options == of || t.Probe != nil && t.Probe.Options == of {
			return t.Name
		}
		for j := range t.Sinks {
			if t.Sinks[j].Options == of {
				return t.Name
			}
		}
	}
	return ""
}
