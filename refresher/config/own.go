package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// need is a file that a sink must not overwrite.
type need struct {
	what string
	// unread: nor does a source or a probe read it.
	unread bool
}

// setOwner is a sink that keeps what begins so, in a directory of its own.
type setOwner struct{ prefix, by string }

// reserve notes what others than sources and probes need, by each name that
// leads to it, and what is inside of sinks that are directories.
func (d *decoder) reserve(c *Config) {
	d.needs = map[string]need{}
	note := func(path string, n need) {
		if !filepath.IsAbs(path) {
			return
		}
		for _, name := range []string{d.files.same(path), d.files.target(path)} {
			if _, known := d.needs[name]; !known {
				d.needs[name] = n
			}
		}
	}
	if path, err := filepath.Abs(d.doc.name); err == nil && !d.doc.unnamed {
		note(path, need{"the configuration itself", true})
	}
	if len(c.Exec.Command) > 0 {
		note(c.Exec.Command[0], need{what: "the program of exec"})
	}
	for _, t := range d.tokens {
		for _, s := range t.decoded.Sinks {
			if h := s.OnChange; h != nil && len(h.Command) > 0 {
				note(h.Command[0], need{what: "the program of an on_change"})
			}
			if h := s.OnChange; h != nil && h.Signal != nil {
				note(h.Signal.PIDFile, need{what: "the pid_file of an on_change"})
			}
		}
		d.token = t
		for _, s := range t.sinks {
			for _, p := range s.paths {
				if p.dir {
					d.sets = append(d.sets, setOwner{inside(d.files.same(p.value)) + "..", d.by(s, p.value)})
				}
			}
		}
	}
	d.token = nil
}

// needed refuses an output that has the name of something that is needed.
func (d *decoder) needed(name string, at place, path string) bool {
	if n, ok := d.needs[name]; ok {
		d.fail(at, path, fmt.Sprintf("is %s, which would be overwritten: choose another path", n.what))
		return true
	}
	if by := d.setOf(name); by != "" {
		d.fail(at, path, fmt.Sprintf("lies in what is replaced as a whole for the set of %s: choose another directory", by))
		return true
	}
	return false
}

// setOf tells whose part of a set's directory a path lies in.
func (d *decoder) setOf(name string) (by string) {
	for _, s := range d.sets {
		if strings.HasPrefix(name, s.prefix) {
			return s.by
		}
	}
	return ""
}

// claimState notes what the daemon writes into state_dir. The names of tokens
// are names of files there.
func (d *decoder) claimState(dir string, claims map[string]owner) {
	files := []string{"lock"}
	for _, t := range d.tokens {
		files = append(files, t.name+".json", t.name+".hooks")
	}
	for _, file := range files {
		claims[filepath.Join(dir, file)] = owner{by: "state_dir", state: true}
	}
}

// ownOutput says what is wrong with a file that is to be read, if it is ours.
func (d *decoder) ownOutput(input string, claims map[string]owner) (problem string) {
	for _, name := range []string{d.files.target(input), d.name(input)} {
		by, ours := claims[name]
		switch set := d.setOf(name); {
		case d.needs[name].unread:
			return fmt.Sprintf("is %s: name a file of its own", d.needs[name].what)
		case ours && by.state:
			return "is where the daemon keeps its state: name a file that somebody else writes"
		case ours:
			return ownSink(by.by)
		case set != "":
			return ownSink(set)
		}
	}
	return ""
}

func ownSink(by string) string {
	return "is one of our own sinks, of " + by + ": a token cannot be its own source"
}

// inside is how the paths in a directory begin, / among them.
func inside(dir string) string { return strings.TrimSuffix(dir, "/") + "/" }
