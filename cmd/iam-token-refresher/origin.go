package main

import (
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
)

// origin is where a configuration comes from.
type origin struct {
	path   string            // the file; empty for flags
	values map[string]string // of flags and variables
	opt    config.LoadOptions
}

// read reads the configuration and tries it; see [daemon.Options].
func (o origin) read(try func(*config.Config) error) (*config.Config, error) {
	opt := o.opt
	opt.Try = try
	if o.path != "" {
		return config.Load(o.path, daemon.Kinds(), opt)
	}
	return config.FromFlags(o.values, daemon.Kinds(), opt)
}
