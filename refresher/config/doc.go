// Package config reads the configuration: YAML, or flags and variables for one
// token, into validated options.
//
// It knows no source, probe or sink. The daemon hands it a table of kinds
// ([Kinds]); `source: {KIND: {…}}` is decoded into the option struct that the
// table's constructor makes. What an option struct may say about itself beyond
// its fields is in ports.go.
//
// Every mistake in a configuration becomes an [Error] with file, line, column
// and the offending line alone, secrets masked; all that can be found are
// reported at once, as [Errors]. The package starts nothing and writes nothing;
// it reads the configuration, the environment's variables that paths name, and
// the metadata of files that paths lead to.
package config
