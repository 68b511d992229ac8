package config

import (
	"errors"
	"os"
	"reflect"
)

// Unfit is what Try found wrong with an option struct of the configuration.
type Unfit struct {
	// Of is the struct; nil for the options beside the tokens.
	Of Options
	// Err is as from Validate: a [*refresher.Invalid] is shown at its field.
	Err error
}

func (u *Unfit) Error() string { return u.Err.Error() }

// Unwrap returns what is wrong.
func (u *Unfit) Unwrap() error { return u.Err }

// decode makes the configuration that the document describes, and tries it.
//
// A document takes many times the memory of its configuration. So it is let go
// before anything is built, and read again if there is a mistake to place.
func (doc *document) decode(kinds Kinds, opt LoadOptions) (*Config, error) {
	d, c := doc.config(kinds, opt)
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	name, text, unnamed := doc.name, doc.text, doc.unnamed
	doc, d = nil, nil
	if len(text) > largeDocument {
		c = compact(c)
	}
	if opt.Try == nil {
		return c, nil
	}
	tried := opt.Try(c)
	if tried == nil {
		return c, nil
	}
	doc, err := parseDocument(name, []byte(text))
	if err != nil {
		return nil, err
	}
	doc.unnamed = unnamed
	d, again := doc.config(kinds, opt)
	d.unfit(tried, func(of Options) Options { return counterpart(of, c, again) })
	return nil, d.errs.sorted()
}

// config decodes the document. The decoder has the mistakes and the places.
func (doc *document) config(kinds Kinds, opt LoadOptions) (*decoder, *Config) {
	d := &decoder{doc: doc, kinds: kinds, lookupEnv: opt.LookupEnv, fields: map[reflect.Type][]field{}}
	if d.lookupEnv == nil {
		d.lookupEnv = os.LookupEnv
	}
	c := defaultConfig()
	if list, ok := d.entries(doc.body, "", "a map of keys (tokens: and others)"); ok {
		d.object(list, reflect.ValueOf(&c).Elem(), "", place{}, nil)
		if opt.Exec != nil {
			d.change(&c.Exec, opt.Exec)
		}
		d.checkExec(&c, opt.Exec != nil)
		d.checkConfig(&c)
		d.checkBetween(&c)
	}
	return d, &c
}

// counterpart returns the options that stand in b where of stands in a, which
// was decoded from the same text.
func counterpart(of Options, a, b *Config) Options {
	for i := range min(len(a.Tokens), len(b.Tokens)) {
		x, y := &a.Tokens[i], &b.Tokens[i]
		switch {
		case x.Source.Options == of:
			return y.Source.Options
		case x.Probe != nil && x.Probe.Options == of && y.Probe != nil:
			return y.Probe.Options
		}
		for j := range min(len(x.Sinks), len(y.Sinks)) {
			if x.Sinks[j].Options == of {
				return y.Sinks[j].Options
			}
		}
	}
	return of
}

// unfit places what Try found; here finds the option struct that is meant
// among those of d.
func (d *decoder) unfit(err error, here func(Options) Options) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			d.unfit(one, here)
		}
		return
	}
	d.label, d.token = "", nil
	var u *Unfit
	if !errors.As(err, &u) || u.Of == nil {
		d.invalid(err, d.doc.body, "", place{})
		return
	}
	of := here(u.Of)
	for _, t := range d.tokens {
		for _, o := range append([]*placedOptions{t.source, t.probe}, t.sinks...) {
			if o != nil && o.options == of {
				d.labelToken(t)
				d.invalid(u.Err, o.node, o.path, o.at)
				return
			}
		}
	}
	d.invalid(u.Err, d.doc.body, "", place{})
}
