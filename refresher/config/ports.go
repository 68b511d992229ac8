package config

// Kinds says which sources, probes and sinks there are, by their YAML key.
type Kinds struct {
	Sources, Probes, Sinks map[string]Kind
}

// Kind is one way of getting, trying or publishing a value.
type Kind struct {
	// New returns a pointer to an option struct with its defaults filled in.
	//
	// Fields are decoded by their tags: `yaml:"key"` (fields without one are
	// ignored; `yaml:",inline"` or an embedded struct adds its fields),
	// `doc:"one line"` and `check:"…"`, a comma list of
	//
	//	required    must be given and not be empty
	//	path        a file: ${VARIABLES} are expanded, must be absolute, must not be a directory
	//	path,dir    the same for a directory, must not be a file
	//	listen      an address to listen on, or else a file as path
	//	oneof=a|b   must be one of these
	//
	// Types: string, bool, integers, floats, time.Duration, structs, pointers,
	// slices and maps with string keys of these, and scalars that decode
	// themselves with UnmarshalText([]byte) error, or with UnmarshalYAML([]byte)
	// error from the text as it is written, quotes included. What these return
	// is shown to the user; of a *refresher.Invalid, its Problem.
	New func() Options
	// Doc says in one line what this kind is, for the reference and the schema.
	Doc string
}

// Options is an option struct.
type Options interface {
	// Validate finds mistakes that the tags cannot express. It returns
	// *refresher.Invalid, several joined with errors.Join; their Field (keys
	// joined by dots) decides which line is shown.
	Validate() error
}

// The interfaces below are optional; option structs implement them so that
// mistakes between options can be found. All are called after Validate.

// Writes is implemented by options of sinks that own something which nobody
// else may write to.
type Writes interface {
	// Targets returns what the sink owns: absolute paths, or host:port addresses.
	Targets() []string
}

// Shares is implemented by options of sinks that stand for one listener which
// several tokens may use, such as a socket. A token may be there only once.
type Shares interface {
	// Shared returns the listener's key (an absolute path, or host:port), and
	// what this token says of the listener itself, by option ("mode": "0660").
	// Tokens must not contradict each other; what one leaves out (or leaves
	// empty) another may say.
	Shared() (key string, says map[string]string)
}

// Defaults is implemented beside Shares where one token of a listener may be
// the one that is given without a name.
type Defaults interface {
	// IsDefault tells whether this token is it.
	IsDefault() bool
}

// Reads is implemented by options of sources (and probes) that read files.
type Reads interface {
	// Inputs returns the files that a mint reads, without those of Rebuild.
	Inputs() []string
	// Rebuild returns the files that are read when the source is built: a
	// change of one needs a new source.
	Rebuild() []string
}
