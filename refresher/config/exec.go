package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Exec is the program that runs with values in its environment. There is none
// without a Command.
type Exec struct {
	Command     []string          `yaml:"command" doc:"program and arguments, run without a shell; it starts when every token that env names is published"`
	Env         map[string]string `yaml:"env" doc:"name: template, for instance YC_TOKEN: \"{{.bot.Value}}\"; after the token's name .Value, .Name, .Type, .ExpiresAt, .Version or .OrgID; where there is one token, {{.Value}} will do"`
	OnRenew     Renewal           `yaml:"on_renew" doc:"restart it, signal:NAME, or none"`
	RestartOn   string            `yaml:"restart_on" check:"oneof=need|version" doc:"when on_renew is due: need: there is a newer value and one that it holds was rejected or is inside before_expiry; version: there is a newer value"`
	Merge       time.Duration     `yaml:"merge" doc:"restarts due within this time become one; also the least time between two starts"`
	StopSignal  Signal            `yaml:"stop_signal" doc:"asks it to end"`
	StopTimeout time.Duration     `yaml:"stop_timeout" doc:"how long it may take to end, then it is killed; keep it below the service manager's own"`
	OnExit      string            `yaml:"on_exit" check:"oneof=exit|restart" doc:"when it ends by itself: exit: so do we, with its exit code (128 and the signal's number); restart: the same after exit code 0, otherwise it is started again, after a pause that grows from 1s to 1m"`
}

const maxExecTime = 24 * time.Hour

func defaultExec() Exec {
	var stop Signal
	if err := stop.UnmarshalText([]byte("TERM")); err != nil {
		panic(err) // of our own default
	}
	return Exec{OnRenew: Renewal{Restart: true}, RestartOn: "need", Merge: 30 * time.Second, StopSignal: stop, StopTimeout: 5 * time.Second, OnExit: "exit"}
}

// change has the command line change what the file says of the program, and
// notes what it changed.
func (d *decoder) change(e *Exec, by func(*Exec)) {
	before := *e
	by(e)
	was, is := reflect.ValueOf(before), reflect.ValueOf(*e)
	for _, f := range d.fieldsOf(was.Type()) {
		if !reflect.DeepEqual(was.FieldByIndex(f.index).Interface(), is.FieldByIndex(f.index).Interface()) {
			d.changed = append(d.changed, f.key)
		}
	}
}

// onCommandLine names what gave an option of exec on the command line, such as
// "--env NAME"; it is empty for all other options.
func (d *decoder) onCommandLine(path string) string {
	key, ours := strings.CutPrefix(path, "exec.")
	key, variable, _ := strings.Cut(key, ".")
	switch {
	case !ours || !slices.Contains(d.changed, key):
		return ""
	case key == "command":
		return "PROGRAM"
	}
	return strings.TrimSpace("--" + strings.ReplaceAll(key, "_", "-") + " " + variable)
}

// checkExec checks the program, and that each token is of use to somebody.
func (d *decoder) checkExec(c *Config, given bool) {
	e := &c.Exec
	problem := func(key, problem string) {
		d.fail(d.locate(d.doc.body, "exec."+key, place{}), "exec."+key, problem)
	}
	if d.written(d.doc.body, "exec") || given {
		switch {
		case len(e.Command) == 0 || e.Command[0] == "":
			problem("command", "names no program")
		case slices.ContainsFunc(e.Command, hasNUL):
			problem("command", "holds a NUL")
		}
		if e.Merge < 0 || e.Merge > maxExecTime {
			problem("merge", "must be between 0s and "+short(maxExecTime))
		}
		if e.StopTimeout <= 0 || e.StopTimeout > maxExecTime {
			problem("stop_timeout", "must be more than 0 and at most "+short(maxExecTime))
		}
	}
	names := make([]string, 0, len(c.Tokens))
	for _, t := range c.Tokens {
		names = append(names, t.Name)
	}
	named := map[string]bool{}
	known := true // which tokens the variables name
	for _, variable := range slices.Sorted(maps.Keys(e.Env)) {
		wrong := func(what string) {
			problem("env."+variable, what)
			known = false
		}
		in, closed := e.namesIn(e.Env[variable])
		if !closed {
			wrong("holds {{ without }}: write a field as {{.Value}}")
		}
		for _, name := range in {
			switch {
			case name == "" && len(names) == 1:
				named[names[0]] = true
			case name == "" && len(names) > 1:
				wrong(fmt.Sprintf("there is more than one token: say whose field this is, for instance {{.%s.Value}}", names[0]))
			case slices.Contains(names, name):
				named[name] = true
			case name != "":
				wrong(fmt.Sprintf("there is no token %q%s", name, suggest(name, names)))
			}
		}
	}
	for _, t := range d.tokens {
		d.labelToken(t)
		field := "{{.Value}}"
		if len(names) > 1 {
			field = "{{." + t.decoded.Name + ".Value}}"
		}
		switch {
		case len(t.decoded.Sinks) > 0 || t.badSinks || named[t.name] || !known:
		case d.onCommandLine("exec.env") != "":
			problem("env", fmt.Sprintf("names no value of %s, which has no sinks, so that nobody would get it: write for example '%s=%s'",
				strings.TrimSuffix(t.label, ": "), defaultVariable, field))
		case d.written(t.node, "sinks"):
			d.fail(d.locate(t.node, "sinks", t.at), "sinks", "must not be empty")
		case len(e.Env) > 0:
			d.fail(placeOf(t.node), "sinks", "is missing, and no variable of exec.env holds "+field)
		default:
			d.fail(placeOf(t.node), "sinks", "is missing")
		}
	}
	d.label = ""
}

// Tokens lists the tokens that the program's variables name; where there is one
// token they need not name it.
func (e Exec) Tokens(all []Token) (names []string) {
	for _, text := range e.Env {
		in, _ := e.namesIn(text)
		for _, name := range in {
			if name == "" && len(all) == 1 {
				name = all[0].Name
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// namesIn lists what stands before the fields of a template, empty for a field
// alone. closed is false when a field has no end.
func (Exec) namesIn(text string) (names []string, closed bool) {
	for {
		_, rest, found := strings.Cut(text, "{{")
		inside, after, closed := strings.Cut(rest, "}}")
		if !found || !closed {
			return names, !found
		}
		inside, _, _ = strings.Cut(inside, "|") // a function
		inside = strings.TrimPrefix(strings.TrimSpace(inside), ".")
		name := ""
		if dot := strings.LastIndexByte(inside, '.'); dot >= 0 {
			name = inside[:dot]
		}
		names = append(names, name)
		text = after
	}
}
