package sink

// Targets lists what the sink alone writes to, for checks between sinks.
func (o FileOptions) Targets() []string { return []string{o.Path} }

// Targets lists what the sink alone writes to, for checks between sinks.
func (o EnvFileOptions) Targets() []string { return []string{o.Path} }

// Targets lists what the sink alone writes to, for checks between sinks.
func (o SetOptions) Targets() []string { return append(setFiles(o.Path), o.Path) }

// Targets lists what the sink alone writes to, for checks between sinks.
func (o ProxyOptions) Targets() []string { return []string{o.Listen} }

// Shared returns the socket and what this token says of it: tokens on one
// socket must not contradict each other.
func (o SocketOptions) Shared() (path string, says map[string]string) {
	return o.Path, map[string]string{"mode": o.Mode.String(), "owner": o.Owner, "group": o.Group}
}

// IsDefault tells whether the token answers for the name default.
func (o SocketOptions) IsDefault() bool { return o.Default }

// Shared returns the address that tokens may share.
func (o MetadataOptions) Shared() (address string, says map[string]string) { return o.Listen, nil }

// IsDefault tells whether the token answers for the name default.
func (o MetadataOptions) IsDefault() bool { return o.Default }
