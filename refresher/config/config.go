package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/textfile"
)

// Config is a valid configuration. Nothing in it is a secret.
type Config struct {
	Tokens    []Token       `yaml:"tokens" check:"required" doc:"the tokens to keep fresh"`
	Exec      Exec          `yaml:"exec" doc:"a program to run with values in its environment"`
	StateDir  string        `yaml:"state_dir" check:"path,dir" doc:"directory that published versions survive a restart in; without it a restart mints anew"`
	Status    StatusOptions `yaml:"status" doc:"health and metrics over HTTP"`
	Log       LogOptions    `yaml:"log" doc:"what is logged, and how"`
	Limits    Limits        `yaml:"limits" doc:"how much is done at once"`
	Endpoints Endpoints     `yaml:"endpoints" doc:"addresses of the services, where they are not the usual ones"`
	CAFile    string        `yaml:"ca_file" check:"path" doc:"PEM file of certificate authorities to trust beside the system's"`
}

// StatusOptions is the listener for health and metrics.
type StatusOptions struct {
	Listen string `yaml:"listen" doc:"host:port of /livez, /readyz and /metrics; without it they are not served"`
}

// LogOptions says what is logged.
type LogOptions struct {
	Level  string `yaml:"level" check:"oneof=debug|info|warn|error" doc:"the least important messages to log"`
	Format string `yaml:"format" check:"oneof=auto|text|json" doc:"auto is text on a terminal, JSON otherwise"`
}

// Limits bounds what the daemon does at once.
type Limits struct {
	Mints           int     `yaml:"mints" doc:"mints that may run at once"`
	ProbesPerSecond float64 `yaml:"probes_per_second" doc:"probes a second for each host; 0 is no limit"`
}

// Token is one token to keep fresh.
type Token struct {
	Name     string  `yaml:"name" check:"required" doc:"what logs, metrics, the socket and commands call it; 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"`
	Required bool    `yaml:"required" doc:"whether readiness waits for this token"`
	Source   Source  `yaml:"source" check:"required" doc:"where values come from: one of the sources below"`
	Refresh  Refresh `yaml:"refresh" doc:"when a new value is minted"`
	Probe    *Probe  `yaml:"probe" doc:"how a value is tried before anyone sees it: one of the probes below, or none"`
	Sinks    []Sink  `yaml:"sinks" doc:"where values go: a list of the sinks below; needed unless exec names the token"`
}

// Source is where values come from.
type Source struct {
	Kind        string
	Options     Options
	Impersonate string `yaml:"impersonate" doc:"id of the service account whose token is minted with this source's"`
}

// Refresh says when a new value is minted.
type Refresh struct {
	Schedule Schedule `yaml:"schedule" doc:"\"@every 1h\" (from a random point of the interval on: the first renewal may come at once), \"@hourly\", or five cron fields in local time or after \"TZ=Europe/Moscow \""`
	// Cron is another spelling of Schedule, and empty in a Config: Schedule has it.
	Cron         Schedule      `yaml:"cron" doc:"the same as schedule; give one of them"`
	Jitter       time.Duration `yaml:"jitter" doc:"each scheduled refresh is delayed by a random part of this"`
	BeforeExpiry time.Duration `yaml:"before_expiry" doc:"how long before its end a value is replaced whatever the schedule says; a third of the lifetime without it, half of it at most"`
}

// Probe is how values are tried.
type Probe struct {
	// None is `probe: none`: it is meant that nothing is tried. All other
	// fields mean nothing then.
	None     bool
	Kind     string
	Options  Options
	Schedule Schedule      `yaml:"schedule" doc:"when the published value is tried again"`
	Timeout  time.Duration `yaml:"timeout" doc:"how long the API may take to answer"`
	Grace    time.Duration `yaml:"grace" doc:"how long a value is held back when probes give no verdict, before it is published unverified"`
	Required bool          `yaml:"required" doc:"true: never publish a value that was not accepted"`
}

// Sink is where values go.
type Sink struct {
	Kind     string
	Options  Options
	OnChange *Hook `yaml:"on_change" doc:"what to do after each new version"`
}

// Limits of times that a person cannot mean otherwise.
const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = 5 * time.Minute
)

func defaultConfig() Config {
	return Config{
		Exec:   defaultExec(),
		Log:    LogOptions{Level: "info", Format: "auto"},
		Limits: Limits{Mints: 16, ProbesPerSecond: 5},
	}
}

func defaultToken() Token {
	return Token{Required: true, Refresh: Refresh{Schedule: mustSchedule(refresher.DefaultRefresh)}}
}

func defaultProbe() Probe {
	return Probe{
		Schedule: mustSchedule(refresher.DefaultReprobe),
		Timeout:  defaultTimeout,
		Grace:    refresher.DefaultGrace,
	}
}

// mustSchedule is for our own defaults.
func mustSchedule(text string) Schedule {
	s, err := ParseSchedule(text)
	if err != nil {
		panic(err)
	}
	return s
}

// LoadOptions says what a configuration may see of its surroundings.
type LoadOptions struct {
	// LookupEnv finds the variables that paths name; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Exec, where set, changes what the configuration says of the program to
	// run, before that is checked. There is to be one, then.
	Exec func(*Exec)
	// Try builds what a valid configuration describes and finds what is wrong
	// with it on this machine, such as a group that does not exist or a key
	// file that cannot be read. Its errors, several joined with errors.Join, are
	// [*Unfit], and are shown with their lines as well. Nil tries nothing.
	Try func(*Config) error
}

// Load reads a configuration file. The error is an Errors.
func Load(path string, kinds Kinds, opt LoadOptions) (*Config, error) {
	f, _, err := textfile.Open(path, 0)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(path, data, kinds, opt)
}

func unreadable(path string, err error) error {
	problem := "cannot be read"
	var system *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problem = "there is no such file: name another with --config, or describe one token with flags"
	case errors.Is(err, fs.ErrPermission):
		problem = "may not be read: check its mode and owner, and those of the directories above"
	case errors.Is(err, syscall.EISDIR):
		problem = "is a directory: name a file in it"
	case errors.Is(err, textfile.ErrNotRegular):
		problem = "is not a regular file: write what a pipe gives into one"
	case errors.As(err, &system):
		problem = fmt.Sprintf("cannot be read: %v", system.Err)
	}
	return Errors{{File: path, Problem: problem, cause: err}}
}

// Parse reads a configuration; name is what messages call it. The error is an
// Errors.
func Parse(name string, data []byte, kinds Kinds, opt LoadOptions) (*Config, error) {
	doc, err := parseDocument(name, data)
	if err != nil {
		return nil, err
	}
	return doc.decode(kinds, opt)
}
