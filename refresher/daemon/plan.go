package daemon

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/iam"
	"iam-token-refresher/refresher/oauth"
	"iam-token-refresher/refresher/probe"
	"iam-token-refresher/refresher/process"
	"iam-token-refresher/refresher/redact"
	"iam-token-refresher/refresher/store"
	"iam-token-refresher/refresher/textfile"
	"iam-token-refresher/sink"
)

// plan is a configuration turned into the objects that run it. Building one
// reads files and touches nothing.
//
// Each object is made once for all that it is made of, and is known by a
// description of that. So tokens share sources and probes, and the plan after
// a change takes over from the one before what nothing has changed for: to
// [refresher.Refresher.Swap] it is the same object.
type plan struct {
	cfg   *config.Config
	specs []refresher.Spec
	// listeners are known by what they are and their path or address.
	listeners map[string]*listener
	// endpoints are those of all listeners: whoever looks at all tokens wants to
	// find each, and thousands may be on one listener.
	endpoints map[spot]*sink.Endpoint
	hooks     []sink.Hook
	exec      *sink.Exec // nil: no program

	web   *web
	parts map[partKey]any
	made  []io.Closer // parts that were not taken over and must be closed
	// unsound are the tokens whose source is a substitute.
	unsound []string
	// read is what the files it is made of were when they were read, nil for one
	// that was not there; until they are watched.
	read map[string]fs.FileInfo
}

// spot is a token's sink, by its ID.
type spot struct{ token, sink string }

// builder makes plans.
type builder struct {
	live    sink.Live
	log     *slog.Logger
	filter  *redact.Filter
	version string
	seed    maphash.Seed // of the schedules' phases
	// processes starts all commands.
	processes *process.Owner
	logins    oauth.Logins
	// program makes what exec needs of the daemon.
	program func() (sink.ExecOptions, sink.ExecLive)
	// inherited are the sockets that need not be bound.
	inherited inherited
	// system is whom the system trusts.
	system authorities
}

// build makes the plan of cfg. Mistakes are *config.Unfit; all are found.
func (b *builder) build(cfg *config.Config, old *plan) (*plan, error) {
	p := &planner{
		builder: b, old: old, accounts: sink.NewAccounts(b.processes), digests: map[string]string{},
		plan: &plan{cfg: cfg, parts: map[partKey]any{}, listeners: map[string]*listener{}, endpoints: map[spot]*sink.Endpoint{}, read: map[string]fs.FileInfo{}},
	}
	p.run()
	if err := errors.Join(p.errs...); err != nil {
		p.plan.discard()
		return nil, err
	}
	return p.plan, nil
}

// partKey is the hash of a description: ten thousand tokens have many.
type partKey [sha256.Size]byte

// discard closes what the plan made anew, its listeners first.
func (p *plan) discard() {
	p.closeListeners(true)
	for _, c := range p.made {
		_ = c.Close()
	}
}

// closeUnlike closes the parts that next did not take over.
func (p *plan) closeUnlike(next *plan) {
	for key, part := range p.parts {
		if c, ok := part.(io.Closer); ok && next.parts[key] != part {
			_ = c.Close()
		}
	}
}

type planner struct {
	*builder
	plan     *plan
	old      *plan
	accounts *sink.Accounts
	errs     []error

	mu      sync.Mutex // for the plan's parts and for digests
	digests map[string]string
	buffers sync.Pool // of digestFile

	cloud   *iam.Cloud
	web     *web
	webKey  string
	sockets map[string][]sink.SocketOptions
}

// part returns the part of that description: of this plan, of the old one, or
// made now. It may be called concurrently; of two made at once one is kept.
func part[T any](p *planner, description string, make func() (T, error)) (T, error) {
	key := partKey(sha256.Sum256([]byte(description)))
	if x, ok := p.known(key); ok {
		return x.(T), nil
	}
	x, err := make()
	if err != nil {
		return x, err
	}
	return p.keep(key, x).(T), nil
}

// known is the part of this plan, or of the old one.
func (p *planner) known(key partKey) (any, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x, ok := p.plan.parts[key]; ok {
		return x, true
	}
	if p.old == nil {
		return nil, false
	}
	x, ok := p.old.parts[key]
	if ok {
		p.plan.parts[key] = x
	}
	return x, ok
}

// keep makes x the part, unless there is one by now.
func (p *planner) keep(key partKey, x any) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, closes := x.(io.Closer)
	if first, ok := p.plan.parts[key]; ok {
		if closes {
			_ = c.Close()
		}
		return first
	}
	p.plan.parts[key] = x
	if closes {
		p.plan.made = append(p.plan.made, c)
	}
	return x
}

// describe writes options as a key.
func describe(options any) string {
	b, err := json.Marshal(options)
	if err != nil {
		return fmt.Sprintf("%#v", options)
	}
	return string(b)
}

// digest describes the content of files, so that another content is another
// part. It may be called concurrently.
func (p *planner) digest(paths []string) string {
	var all string
	for _, path := range paths {
		p.mu.Lock()
		d, ok := p.digests[path]
		p.mu.Unlock()
		if !ok {
			var read fs.FileInfo
			d, read = p.digestFile(path)
			p.mu.Lock()
			p.digests[path], p.plan.read[path] = d, read
			p.mu.Unlock()
		}
		all += " " + path + "=" + d
	}
	return all
}

func (p *planner) digestFile(path string) (digest string, read fs.FileInfo) {
	f, read, err := textfile.Open(path, 0)
	if err != nil {
		return err.Error(), nil
	}
	defer f.Close()
	h := sha256.New()
	buffer, ok := p.buffers.Get().(*[4 << 10]byte)
	if !ok {
		buffer = new([4 << 10]byte)
	}
	defer p.buffers.Put(buffer)
	defer clear(buffer[:]) // keys pass through it
	if _, err := io.CopyBuffer(h, io.LimitReader(f, 1<<20), buffer[:]); err != nil {
		return err.Error(), read
	}
	return fmt.Sprintf("%x", h.Sum(nil)), read
}

// fail notes what is wrong with an option struct; of nil is for the options
// beside the tokens.
func (p *planner) fail(of config.Options, err error) {
	p.errs = append(p.errs, &config.Unfit{Of: of, Err: err})
}

// failTop notes what is wrong with an option beside the tokens.
func (p *planner) failTop(field string, err error) {
	p.fail(nil, &refresher.Invalid{Field: field, Problem: err.Error()})
}

func (p *planner) run() {
	if !p.outside() {
		return
	}
	p.program()
	p.joinSockets()
	sources := p.sources()
	for i := range p.plan.cfg.Tokens {
		p.token(&p.plan.cfg.Tokens[i], sources[i])
	}
	p.idleSockets()
}

// outside makes what reaches the cloud.
func (p *planner) outside() bool {
	cfg := p.plan.cfg
	var ca []byte
	if cfg.CAFile != "" {
		var err error
		p.plan.read[cfg.CAFile] = stat(cfg.CAFile)
		if ca, err = textfile.Read(cfg.CAFile); err != nil {
			p.failTop("ca_file", err)
			return false
		}
	}
	p.webKey = fmt.Sprintf("web %x", sha256.Sum256(ca))
	w, err := part(p, p.webKey, func() (*web, error) { return newWeb(p.system, ca) })
	if err != nil {
		p.failTop("ca_file", err)
		return false
	}
	p.web, p.plan.web = w, w
	endpoints := iam.Endpoints{IAM: cfg.Endpoints.IAM, TokenExchange: cfg.Endpoints.TokenExchange, Metadata: cfg.Endpoints.Metadata}
	if err := endpoints.Validate(); err != nil {
		p.failTop("endpoints", err)
		return false
	}
	p.cloud, _ = part(p, "cloud "+describe(endpoints)+p.webKey, func() (*iam.Cloud, error) {
		return iam.New(iam.Config{Endpoints: endpoints, TLS: w.tls, HTTP: w.transport, Clock: p.live.Now, Log: p.log, Processes: p.processes, Version: p.version}), nil
	})
	return true
}

func (p *planner) token(t *config.Token, source made) {
	if source.err != nil {
		p.fail(t.Source.Options, source.err)
	}
	if o, ok := t.Source.Options.(config.Reads); ok {
		for _, path := range o.Inputs() {
			p.plan.read[path] = stat(path)
		}
	}
	spec := refresher.Spec{Token: t.Name, Required: t.Required, Source: source.Source}
	var err error
	if t.Probe != nil && !t.Probe.None {
		if spec.Probe, err = p.probe(t); err != nil {
			p.fail(t.Probe.Options, err)
		}
		spec.ProbeTimeout = t.Probe.Timeout
	}
	for j := range t.Sinks {
		s, err := p.sink(t, &t.Sinks[j])
		if err != nil {
			p.fail(t.Sinks[j].Options, err)
			continue
		}
		spec.Sinks = append(spec.Sinks, s)
		if h := t.Sinks[j].OnChange; h != nil {
			p.plan.hooks = append(p.plan.hooks, hook(t.Name, s, h))
		}
	}
	if s, ok := p.programSink(t); ok {
		spec.Sinks = append(spec.Sinks, s)
	}
	if len(p.errs) > 0 {
		return
	}
	spec.Policy = p.policy(t, source.Source.Identity())
	p.plan.specs = append(p.plan.specs, spec)
}

// policy makes the functions of t's schedules. Tokens of one identity have one
// phase, so that those of one source are due together and share a mint.
func (p *planner) policy(t *config.Token, identity string) refresher.Policy {
	policy := refresher.Policy{
		Jitter: t.Refresh.Jitter, BeforeExpiry: t.Refresh.BeforeExpiry,
		Refresh: p.schedule("refresh "+identity, t.Refresh.Schedule),
	}
	if t.Probe != nil && !t.Probe.None {
		policy.Probed, policy.Grace, policy.ProbeRequired = true, t.Probe.Grace, t.Probe.Required
		policy.Reprobe = p.schedule("probe "+t.Name, t.Probe.Schedule)
	}
	return policy
}

// schedule gives s a phase of its own: random for this process, and the same
// for what is of the same name.
func (p *planner) schedule(of string, s config.Schedule) func(time.Time) time.Time {
	phase := float64(maphash.String(p.seed, of)>>11) / (1 << 53)
	return s.Start(phase, time.Unix(0, 0))
}

// made is a token's source, or why there is none.
type made struct {
	refresher.Source
	err error
}

// sources makes those of all tokens, on all cores: that means a thousand keys
// read and checked.
func (p *planner) sources() []made {
	tokens := p.plan.cfg.Tokens
	sources := make([]made, len(tokens))
	sideBySide(len(tokens), func(i int) { sources[i].Source, sources[i].err = p.source(&tokens[i]) })
	return sources
}

// sideBySide does n things on all cores.
func sideBySide(n int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	workers.Wait()
}

func (p *planner) source(t *config.Token) (refresher.Source, error) {
	options, ok := t.Source.Options.(sourceOptions)
	if !ok {
		return nil, fmt.Errorf("%s cannot be a source here", t.Source.Kind)
	}
	if t.Source.Impersonate != "" && TypeOf(t) != refresher.TypeIAM {
		return nil, fmt.Errorf("an OAuth token cannot act for a service account (impersonate): exchange it for an IAM token with oauth_token")
	}
	key := fmt.Sprintf("source %s %s %p %q %s", t.Source.Kind, describe(options), p.cloud, t.Source.Impersonate, p.plan.cfg.Endpoints.OAuth) + p.digest(options.Rebuild())
	return part(p, key, func() (refresher.Source, error) {
		source, err := p.newSource(options)
		if err != nil {
			if source = p.substitute(t, options, err); source == nil {
				return nil, err
			}
		}
		if t.Source.Impersonate != "" {
			own := &remembering{Source: source, filter: p.filter, purpose: "to impersonate " + t.Source.Impersonate + ", "}
			source = iam.Impersonate(p.cloud, own, t.Source.Impersonate)
		}
		return &remembering{Source: source, filter: p.filter}, nil
	})
}

// substitute is a source for a token whose own cannot be made at the start,
// when readers wait on inherited sockets and there is a state to serve them. Nil
// otherwise: a person looks on, or the old source stays.
func (p *planner) substitute(t *config.Token, options sourceOptions, cause error) refresher.Source {
	o, ok := options.(substitutable)
	if !ok || len(p.inherited) == 0 || p.old != nil || p.plan.cfg.StateDir == "" {
		return nil
	}
	identity := refresher.IdentityOf(store.Fingerprint(p.plan.cfg.StateDir, t.Name))
	if t.Source.Impersonate != "" {
		identity = iam.ImpersonatedBy(identity)
	}
	s := o.Substitute(p.cloud, identity, cause)
	if s != nil {
		p.mu.Lock()
		p.plan.unsound = append(p.plan.unsound, t.Name)
		p.mu.Unlock()
	}
	return s
}

// newSource makes the source itself.
func (p *planner) newSource(options sourceOptions) (refresher.Source, error) {
	login := oauth.Config{
		URL: p.plan.cfg.Endpoints.OAuth, HTTP: p.web.transport, UserAgent: "iam-token-refresher/" + p.builder.version,
		Clock: p.live.Now, Log: p.log, Logins: &p.logins,
	}
	switch o := options.(type) {
	case *oauth.Options:
		return o.New(login)
	case *iam.OAuthTokenOptions:
		if !o.FromLogin() {
			return o.New(p.cloud)
		}
		base, err := oauth.Options{ClientID: o.ClientID, ClientSecretFile: o.ClientSecretFile, TokenFile: o.TokenFile}.New(login)
		if err != nil {
			return nil, err
		}
		return iam.ExchangeOAuth(p.cloud, &remembering{Source: base, filter: p.filter}), nil
	case cloudOptions:
		return o.New(p.cloud)
	}
	return nil, fmt.Errorf("%T cannot be a source here", options)
}

func (p *planner) probe(t *config.Token) (refresher.Probe, error) {
	c := t.Probe
	options, ok := c.Options.(probeOptions)
	if !ok {
		return nil, fmt.Errorf("%s cannot be a probe here", c.Kind)
	}
	key := "probe " + c.Kind + " " + describe(options) + " " + TypeOf(t) + " " + p.plan.cfg.Endpoints.Tracker + p.webKey
	if reads, ok := options.(interface{ Rebuild() []string }); ok {
		key += p.digest(reads.Rebuild())
	}
	return part(p, key, func() (refresher.Probe, error) {
		return options.New(p.probing(t))
	})
}

// probing is what probes of the token are made with.
func (p *planner) probing(t *config.Token) probe.Config {
	c := probe.Config{Client: p.web.client(), TrackerURL: p.plan.cfg.Endpoints.Tracker, UserAgent: "iam-token-refresher/" + p.version}
	if TypeOf(t) == refresher.TypeOAuth {
		c.Scheme = probe.SchemeOAuth
	}
	return c
}

func (p *planner) sink(t *config.Token, c *config.Sink) (refresher.Sink, error) {
	org := organization(t)
	key := "sink " + c.Kind + " " + t.Name + " " + org + " " + describe(c.Options)
	switch o := c.Options.(type) {
	case *sink.FileOptions:
		more := headersOf(t, o)
		return part(p, key+describe(more), func() (refresher.Sink, error) { return sink.NewFile(*o, org, p.accounts, more...) })
	case *sink.EnvFileOptions:
		return part(p, key, func() (refresher.Sink, error) { return sink.NewEnvFile(*o, org, p.accounts) })
	case *sink.SetOptions:
		return part(p, key, func() (refresher.Sink, error) { return sink.NewSet(*o, p.accounts) })
	case *sink.SocketOptions:
		return p.socket(t, o)
	case *sink.MetadataOptions:
		return p.metadata(t, o)
	case *sink.ProxyOptions:
		return p.proxy(t, o)
	}
	return nil, fmt.Errorf("%s cannot be a sink here", c.Kind)
}

// organization is what the token's probe says it is for; empty when it does not.
func organization(t *config.Token) string {
	if t.Probe != nil {
		if o, ok := t.Probe.Options.(interface{ Organization() string }); ok {
			return o.Organization()
		}
	}
	return ""
}

// headersOf are the further lines of a file of headers: with them it is all that
// a request to Tracker needs.
func headersOf(t *config.Token, o *sink.FileOptions) []string {
	if o.Format != "header" || t.Probe == nil {
		return nil
	}
	tracker, ok := t.Probe.Options.(*probe.TrackerOptions)
	if !ok {
		return nil
	}
	name, id := tracker.Header()
	return []string{name + ": " + id}
}

// joinSockets collects what the tokens on each socket say of it.
func (p *planner) joinSockets() {
	p.sockets = map[string][]sink.SocketOptions{}
	for _, t := range p.plan.cfg.Tokens {
		for _, s := range t.Sinks {
			if o, ok := s.Options.(*sink.SocketOptions); ok {
				p.sockets[o.Path] = append(p.sockets[o.Path], *o)
			}
		}
	}
}
