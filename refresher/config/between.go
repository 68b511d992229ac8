package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// owner is who claimed a path or an address.
type owner struct {
	by    string // for messages: `token "bot" (line 7)`
	state bool   // it is a file of the daemon's own state
	// Of a shared listener, otherwise nil: who is there, and what they say of it.
	members map[*placedToken]bool
	says    map[string]said
}

// said is what a token says of a listener that others share.
type said struct{ value, by string }

// checkBetween finds mistakes between options that are each right by themselves.
func (d *decoder) checkBetween(c *Config) {
	names := map[string]*placedToken{}
	claims := map[string]owner{}
	if c.Status.Listen != "" {
		claims[c.Status.Listen] = owner{by: "the status listener"}
		d.claimListen(c.Status.Listen, claims, false)
	}
	stateDir := ""
	if c.StateDir != "" {
		stateDir = d.files.same(c.StateDir)
		claims[stateDir] = owner{by: "state_dir"}
		d.claimState(stateDir, claims)
	}
	d.reserve(c)
	defaults := map[string]*placedToken{}
	for _, t := range d.tokens {
		d.token = t
		d.labelToken(t)
		if first, again := names[t.name]; again && t.name != "" {
			d.fail(t.at, "name", fmt.Sprintf("the token in line %d has the same name", first.at.line))
		} else {
			names[t.name] = t
		}
		for _, s := range t.sinks {
			d.claim(s, claims, stateDir)
			d.claimShared(s, claims, defaults)
		}
	}
	for _, t := range d.tokens {
		d.labelToken(t)
		d.checkInputs(t.source, claims)
		d.checkInputs(t.probe, claims)
	}
	d.label, d.token = "", nil
	if c.CAFile != "" {
		if by, ours := claims[d.files.target(c.CAFile)]; ours {
			d.fail(d.locate(d.doc.body, "ca_file", place{}), "ca_file", "is written by "+by.by)
		}
	}
}

// name returns one spelling for a path or an address.
func (d *decoder) name(target string) string {
	if filepath.IsAbs(target) {
		return d.files.same(target)
	}
	return target
}

func (d *decoder) by(s *placedOptions, target string) string {
	at, _ := s.placeOf(target)
	if d.doc.unnamed {
		return strings.TrimPrefix(s.path, "sinks.")
	}
	if d.token.name == "" {
		return fmt.Sprintf("another token (line %d)", at.line)
	}
	return fmt.Sprintf("token %q (line %d)", d.token.name, at.line)
}

// placeOf returns where a path stands in the options, and its option.
func (o *placedOptions) placeOf(target string) (place, string) {
	for _, p := range o.paths {
		if p.value == target {
			return p.at, p.path
		}
	}
	return o.at, o.path
}

// claim notes what a sink alone writes to.
func (d *decoder) claim(s *placedOptions, claims map[string]owner, stateDir string) {
	w, ok := s.options.(Writes)
	if !ok {
		return
	}
	for _, target := range w.Targets() {
		at, path := s.placeOf(target)
		name := d.name(target)
		if stateDir != "" && strings.HasPrefix(name, inside(stateDir)) {
			d.fail(at, path, "lies in state_dir, which is for the daemon alone: choose another directory")
			continue
		}
		if d.needed(name, at, path) {
			continue
		}
		if first, taken := claims[name]; taken {
			d.fail(at, path, "is also used by "+first.by+": each sink needs its own")
			continue
		}
		if problem := d.claimListen(name, claims, false); problem != "" {
			d.fail(at, path, problem)
			continue
		}
		claims[name] = owner{by: d.by(s, target)}
	}
}

// claimShared notes a listener that tokens may share.
func (d *decoder) claimShared(s *placedOptions, claims map[string]owner, defaults map[string]*placedToken) {
	shares, ok := s.options.(Shares)
	if !ok {
		return
	}
	key, says := shares.Shared()
	at, path := s.placeOf(key)
	name := d.name(key)
	if d.needed(name, at, path) {
		return
	}
	switch first, taken := claims[name]; {
	case !taken:
		if problem := d.claimListen(name, claims, true); problem != "" {
			d.fail(at, path, problem)
			return
		}
		claims[name] = owner{by: d.by(s, key), members: map[*placedToken]bool{}, says: map[string]said{}}
	case first.members == nil:
		d.fail(at, path, "is also used by "+first.by)
		return
	case first.members[d.token]:
		d.fail(at, path, "is given twice for this token")
		return
	}
	claims[name].members[d.token] = true
	for _, option := range slices.Sorted(maps.Keys(says)) {
		value, before := says[option], claims[name].says[option]
		switch {
		case value == "":
		case before.value == "":
			claims[name].says[option] = said{value, d.by(s, key)}
		case before.value != value:
			d.fail(d.locate(s.node, option, s.at), s.path+"."+option,
				fmt.Sprintf("is %q here and %q for %s, which shares the listener: say it once", value, before.value, before.by))
		}
	}
	// A token of this name is what a client without a name gets, too.
	marked, ok := s.options.(Defaults)
	if !ok || !marked.IsDefault() && d.token.name != "default" {
		return
	}
	if first, taken := defaults[name]; taken {
		d.fail(d.locate(s.node, "default", at), path, fmt.Sprintf("token %q is the default there already: there can be one", first.name))
		return
	}
	defaults[name] = d.token
}

// checkInputs finds files that are read and are our own output.
func (d *decoder) checkInputs(o *placedOptions, claims map[string]owner) {
	if o == nil {
		return
	}
	inputs := make([]string, 0, 4)
	for _, p := range o.paths {
		inputs = append(inputs, p.value)
	}
	if r, ok := o.options.(Reads); ok {
		inputs = append(inputs, r.Inputs()...)
		inputs = append(inputs, r.Rebuild()...)
	}
	seen := map[string]bool{}
	for _, input := range inputs {
		if seen[input] {
			continue
		}
		seen[input] = true
		if problem := d.ownOutput(input, claims); problem != "" {
			at, path := o.placeOf(input)
			d.fail(at, path, problem)
		}
	}
}
