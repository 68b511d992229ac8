package config

import "strings"

// Flag describes one token's option on the command line and in the environment.
type Flag struct {
	// Name is the flag without dashes, Env the variable that stands for it.
	Name, Env string
	// Help is one line for --help.
	Help string
	// Path is where the value stands in the configuration file.
	Path string
	// Bool: the flag takes no value; the variable is true or false.
	Bool bool

	words  bool   // the value is split at blanks into a list
	fixed  string // what a Bool flag stands for instead of true
	option string // the value is a key; this is its value
	needs  string // a flag, or the start of a Path, that must be given, too
}

// Variables with our prefix that are no options of a token: ITR_CONFIG stands
// for --config, ITR_SOCKET is where clients find the daemon. The latter is why
// --socket has another variable: a shell set up for a client would make every
// daemon that is started in it serve there.
const (
	EnvConfig = "ITR_CONFIG"
	EnvSocket = "ITR_SOCKET"
)

// The token that flags describe has this name, and an env file this variable,
// unless they say otherwise.
const (
	defaultName     = "default"
	defaultVariable = "YC_TOKEN"
)

// Flags lists the flags that describe one token without a file, in the order
// of help. Every call returns a new slice.
func Flags() []Flag {
	flags := []Flag{
		{Name: "name", Path: "tokens[0].name", Help: "what to call the token (default \"" + defaultName + "\")"},

		{Name: "key-file", Path: "tokens[0].source.service_account_key.file", Help: "service account key, as `yc iam key create` writes it"},
		{Name: "metadata", Path: "tokens[0].source.metadata", Bool: true, fixed: "{}", Help: "mint with the virtual machine's metadata service"},
		{Name: "workload-identity-account", Path: "tokens[0].source.workload_identity.service_account_id", Help: "id of the service account that a workload's OIDC token is exchanged for"},
		{Name: "workload-identity-token-file", Path: "tokens[0].source.workload_identity.token_file", Help: "file with the workload's OIDC token"},
		{Name: "oauth-token-file", Path: "tokens[0].source.oauth_token.file", Help: "file with a person's OAuth token, to be exchanged for an IAM token"},
		{Name: "oauth-client-id", Path: "tokens[0].source.oauth.client_id", Help: "publish the OAuth token of a stored login itself: id of its application"},
		{Name: "oauth-client-secret-file", Path: "tokens[0].source.oauth.client_secret_file", needs: "oauth-client-id", Help: "file with the application's secret"},
		{Name: "oauth-login-file", Path: "tokens[0].source.oauth.token_file", needs: "oauth-client-id", Help: "where `iam-token-refresher login` stored the login"},
		{Name: "command", Path: "tokens[0].source.command.argv", words: true, Help: "program that prints a token, and its arguments, split at blanks"},
		{Name: "token-file", Path: "tokens[0].source.token_file.path", Help: "file in which somebody else keeps a token"},
		{Name: "impersonate", Path: "tokens[0].source.impersonate", needs: "tokens[0].source.", Help: "id of the service account to mint for with the source's token"},

		{Name: "cloud-org-id", Path: "tokens[0].probe.tracker.cloud_org_id", Help: "try values on Tracker in this Yandex Cloud organization"},
		{Name: "org-id", Path: "tokens[0].probe.tracker.org_id", Help: "try values on Tracker in this Yandex 360 organization"},
		{Name: "no-probe", Path: "tokens[0].probe", Bool: true, fixed: "none", Help: "publish values untried, without a warning"},
		{Name: "probe-schedule", Path: "tokens[0].probe.schedule", needs: "tokens[0].probe.tracker.", Help: "when to try the published value again (default \"@every 15m\")"},
		{Name: "probe-required", Path: "tokens[0].probe.required", Bool: true, needs: "tokens[0].probe.tracker.", Help: "never publish a value that was not accepted"},

		{Name: "schedule", Path: "tokens[0].refresh.schedule", Help: "when to mint a new value (default \"@every 1h\")"},
		{Name: "jitter", Path: "tokens[0].refresh.jitter", Help: "delay each scheduled mint by a random part of this"},
		{Name: "before-expiry", Path: "tokens[0].refresh.before_expiry", Help: "replace a value this long before its end (default a third of its lifetime)"},

		{Name: "file", Path: "tokens[0].sinks[0].file.path", Help: "file to write the token to"},
		{Name: "file-mode", Path: "tokens[0].sinks[0].file.mode", needs: "file", Help: "its mode in octal, for example 0640"},
		{Name: "file-owner", Path: "tokens[0].sinks[0].file.owner", needs: "file", Help: "its owner"},
		{Name: "file-group", Path: "tokens[0].sinks[0].file.group", needs: "file", Help: "its group"},
		{Name: "file-format", Path: "tokens[0].sinks[0].file.format", needs: "file", Help: "raw, json or header"},
		{Name: "env-file", Path: "tokens[0].sinks[1].env_file.path", Help: "file to write NAME=token to"},
		{Name: "env-var", Path: "tokens[0].sinks[1].env_file.variables", option: "{{.Value}}", needs: "env-file", Help: "the NAME in it (default " + defaultVariable + ")"},
		{Name: "env-file-mode", Path: "tokens[0].sinks[1].env_file.mode", needs: "env-file", Help: "its mode in octal"},
		{Name: "env-file-group", Path: "tokens[0].sinks[1].env_file.group", needs: "env-file", Help: "its group"},
		{Name: "socket", Env: "ITR_SOCKET_PATH", Path: "tokens[0].sinks[2].socket.path", Help: "Unix socket to serve the token on"},
		{Name: "socket-mode", Path: "tokens[0].sinks[2].socket.mode", needs: "socket", Help: "its mode in octal: who may connect"},
		{Name: "socket-group", Path: "tokens[0].sinks[2].socket.group", needs: "socket", Help: "its group"},
		{Name: "metadata-listen", Path: "tokens[0].sinks[3].metadata.listen", Help: "loopback address to serve the metadata API on, for YC_METADATA_ADDR"},

		{Name: "state-dir", Path: "state_dir", Help: "directory to keep the published version in over a restart"},
		{Name: "status-listen", Path: "status.listen", Help: "host:port of /livez, /readyz and /metrics"},
		{Name: "log-level", Path: "log.level", Help: "debug, info, warn or error"},
		{Name: "log-format", Path: "log.format", Help: "auto, text or json"},
		{Name: "ca-file", Path: "ca_file", Help: "PEM file of certificate authorities to trust, too"},
		{Name: "endpoint-iam", Path: "endpoints.iam", Help: "host:port of IAM"},
		{Name: "endpoint-token-exchange", Path: "endpoints.token_exchange", Help: "URL that exchanges workload identity tokens"},
		{Name: "endpoint-metadata", Path: "endpoints.metadata", Help: "URL of the metadata service"},
		{Name: "endpoint-oauth", Path: "endpoints.oauth", Help: "URL of Yandex OAuth"},
		{Name: "endpoint-tracker", Path: "endpoints.tracker", Help: "URL of the Tracker API"},
	}
	for i := range flags {
		if flags[i].Env == "" {
			flags[i].Env = "ITR_" + strings.ToUpper(strings.ReplaceAll(flags[i].Name, "-", "_"))
		}
	}
	return flags
}
