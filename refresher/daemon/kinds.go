package daemon

import (
	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/iam"
	"iam-token-refresher/refresher/oauth"
	"iam-token-refresher/refresher/probe"
	"iam-token-refresher/sink"
)

// sourceOptions are the options of one kind of source. Those that give IAM tokens
// are cloudOptions, too.
type sourceOptions interface {
	config.Options
	config.Reads
}

type cloudOptions interface {
	New(*iam.Cloud) (refresher.Source, error)
}

// substitutable are sourceOptions that have a source for the time in which the
// real one cannot be made.
type substitutable interface {
	Substitute(c *iam.Cloud, identity string, cause error) refresher.Source
}

// TypeOf is what kind of token a source gives.
func TypeOf(t *config.Token) string {
	if _, ok := t.Source.Options.(*oauth.Options); ok {
		return refresher.TypeOAuth
	}
	return refresher.TypeIAM
}

// probeOptions are the options of one kind of probe.
type probeOptions interface {
	config.Options
	New(probe.Config) (refresher.Probe, error)
}

// Kinds is the table of all sources, probes and sinks. A new one is an option
// struct in its package and a line here (a sink also needs one in plan.sink).
func Kinds() config.Kinds {
	return config.Kinds{
		Sources: map[string]config.Kind{
			"service_account_key": {New: func() config.Options { return &iam.KeyOptions{} }, Doc: "a service account's authorized key, as `yc iam key create` writes it"},
			"metadata":            {New: func() config.Options { return &iam.MetadataOptions{} }, Doc: "the service account of the virtual machine this runs on"},
			"workload_identity":   {New: func() config.Options { return &iam.WorkloadIdentityOptions{} }, Doc: "an OIDC token (Kubernetes, GitLab, GitHub) exchanged for a service account's: no stored key"},
			"oauth_token":         {New: func() config.Options { return &iam.OAuthTokenOptions{} }, Doc: "a person's Yandex OAuth token exchanged for an IAM token"},
			"oauth":               {New: func() config.Options { return &oauth.Options{} }, Doc: "a person's Yandex OAuth token itself, kept fresh: for Tracker, also in Yandex 360; see iam-token-refresher login"},
			"command":             {New: func() config.Options { return &iam.CommandOptions{} }, Doc: "a program that prints a token, such as `yc iam create-token --format json`"},
			"token_file":          {New: func() config.Options { return &iam.TokenFileOptions{} }, Doc: "a file that somebody else keeps a token in"},
		},
		Probes: map[string]config.Kind{
			"tracker": {New: func() config.Options { return &probe.TrackerOptions{} }, Doc: "ask Tracker who we are (GET /v3/myself)"},
			"http":    {New: func() config.Options { return &probe.HTTPOptions{} }, Doc: "ask any other API"},
		},
		Sinks: map[string]config.Kind{
			"file":     {New: func() config.Options { return &sink.FileOptions{} }, Doc: "a file that holds the value"},
			"env_file": {New: func() config.Options { return &sink.EnvFileOptions{} }, Doc: "a file of environment variables"},
			"set":      {New: func() config.Options { return &sink.SetOptions{} }, Doc: "a directory of token, expires_at and token.json that change together, for readers that need them to match"},
			"socket":   {New: func() config.Options { return &sink.SocketOptions{} }, Doc: "HTTP on a Unix socket"},
			"proxy":    {New: func() config.Options { return &sink.ProxyOptions{} }, Doc: "the Tracker API, for clients that hold no token: a listener that adds the token and the organization of the probe to each request"},
			"metadata": {New: func() config.Options { return &sink.MetadataOptions{} }, Doc: "the cloud's metadata API on loopback, for SDKs that read YC_METADATA_ADDR"},
		},
	}
}
