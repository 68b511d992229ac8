package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/daemon"
	"iam-token-refresher/refresher/oauth"
)

// login is a command line of "login".
type login struct {
	*app
	clientID, secretFile, tokenFile string
	scopes                          []string
	code, paste                     bool
	listen                          string
	orgID, cloudOrgID               string
	caFile, oauthURL, trackerURL    string

	client *oauth.Client
}

const loginLong = `Logs a person in to Yandex OAuth, stores the login where the source "oauth" reads
it, and tries it on Tracker. A daemon then keeps it fresh. This is the way to
Tracker in Yandex 360 organizations; in Cloud organizations a service account
needs no person.

Once, before the first login:
  1. Register an application at https://oauth.yandex.com/client/new/ : any name,
     platform "web services", redirect URI
     https://oauth.yandex.com/verification_code , permission tracker:read (and
     tracker:write, if issues are to be changed).
  2. Its page shows the ClientID, which is --client-id, and the client secret.
     That goes into the file of --client-secret-file; while there is no such
     file, you are asked for it and the file is written.

Then log in. The usual way prints a code and the address of a page to enter it
on, in any browser on any machine, and waits. At the end the lines for the
configuration are printed. Log in again whenever the daemon says so.

Run as root, it gives the files to the owner of the directory they are in; where
others may write, too, they stay root's.`

const loginExample = `  iam-token-refresher login --client-id 5f1e0e3b7c9d4a62b8d1f04c6a7e9b13 \
    --client-secret-file /var/lib/iam-token-refresher/oauth.secret \
    --token-file /var/lib/iam-token-refresher/oauth.json --org-id 1234567

  # The page shows a code after access was allowed, to be pasted here:
  iam-token-refresher login --code --client-id … --client-secret-file … --token-file …

  # The browser on this machine brings the code by itself; http://127.0.0.1:8976/
  # must be a redirect URI of the application:
  iam-token-refresher login --listen 127.0.0.1:8976 --client-id … --client-secret-file … --token-file …

  # A debug token, for a first try: it cannot be refreshed. Needs no secret.
  iam-token-refresher login --paste --client-id … --token-file …`

func (a *app) loginCommand() *cobra.Command {
	l := &login{app: a}
	cmd := &cobra.Command{
		Use:     "login",
		Short:   "Log a person in to Yandex OAuth, for the source oauth",
		Long:    loginLong,
		Example: loginExample,
		Args:    noArgs,
	}
	f := cmd.Flags()
	f.StringVar(&l.clientID, "client-id", "", "`id` of the registered application (required)")
	f.StringVar(&l.secretFile, "client-secret-file", "", "`path` of the file with its secret; written if it is not there")
	f.StringVar(&l.tokenFile, "token-file", "", "`path` of the file to store the login in (required)")
	f.StringVar(&l.orgID, "org-id", "", "try the login in this Yandex 360 organization: a number")
	f.StringVar(&l.cloudOrgID, "cloud-org-id", "", "try the login in this Yandex Cloud organization: like bpfaidqca8vd0m5jl3fp")
	f.StringSliceVar(&l.scopes, "scope", nil, "permission to ask for, such as tracker:read (default all that the application has)")
	f.BoolVar(&l.code, "code", false, "log in with a code that a page shows after access was allowed")
	f.StringVar(&l.listen, "listen", "", "the same, with the code brought by the browser to this loopback `address`")
	f.BoolVar(&l.paste, "paste", false, "store a debug token that a page shows; asked for, or read from standard input")
	for _, other := range []struct {
		to         *string
		name, help string
	}{
		{&l.caFile, "ca-file", "PEM file of certificate authorities to trust, too"},
		{&l.oauthURL, "endpoint-oauth", "URL of Yandex OAuth"},
		{&l.trackerURL, "endpoint-tracker", "URL of the Tracker API"},
	} {
		f.StringVar(other.to, other.name, "", other.help)
		f.Lookup(other.name).Annotations = map[string][]string{flagGroup: {titleSurround}}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := l.complete(cmd); err != nil {
			return err
		}
		ctx, stop := l.untilTold(cmd.Context(), nil, onTerminal...)
		defer stop()
		err := l.run(ctx, cmd)
		if errors.Is(err, context.Canceled) {
			return errors.New("the login was given up")
		}
		return err
	}
	return cmd
}

// complete takes what is missing from variables, and finds mistakes that need
// nobody's answer.
func (l *login) complete(cmd *cobra.Command) error {
	from := func(to *string, name string) {
		if *to == "" {
			*to = l.env(name)
		}
	}
	from(&l.clientID, "ITR_OAUTH_CLIENT_ID")
	from(&l.secretFile, "ITR_OAUTH_CLIENT_SECRET_FILE")
	from(&l.tokenFile, "ITR_OAUTH_LOGIN_FILE")
	from(&l.caFile, "ITR_CA_FILE")
	from(&l.oauthURL, "ITR_ENDPOINT_OAUTH")
	from(&l.trackerURL, "ITR_ENDPOINT_TRACKER")
	if l.orgID == "" && l.cloudOrgID == "" {
		from(&l.orgID, "ITR_ORG_ID")
		from(&l.cloudOrgID, "ITR_CLOUD_ORG_ID")
	}
	l.code = l.code || l.listen != ""
	switch {
	case l.clientID == "":
		return usage(cmd, "--client-id is missing: the application's page at https://oauth.yandex.com shows it (--help says how to register one)")
	case !oauth.ValidClientID(l.clientID):
		return usage(cmd, "--client-id is not the id of an application: its page at https://oauth.yandex.com shows it")
	case l.tokenFile == "":
		return usage(cmd, "--token-file is missing: where should the login be stored? For example /var/lib/iam-token-refresher/oauth.json")
	case l.secretFile == "" && !l.paste:
		return usage(cmd, "--client-secret-file is missing: name the file with the application's secret, or where you want it to be written")
	case l.code && l.paste:
		return usage(cmd, "--paste and --code (or --listen) are two ways to log in: give one of them")
	}
	if err := l.completeWhere(cmd); err != nil {
		return err
	}
	if l.orgID != "" || l.cloudOrgID != "" {
		if err := l.organization().Validate(); err != nil {
			return usage(cmd, "the organization: %w", err)
		}
	}
	for _, scope := range l.scopes {
		if scope == "" || strings.Trim(scope, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-") != "" {
			return usage(cmd, "--scope %q: a permission looks like tracker:read", scope)
		}
	}
	return nil
}

// completeWhere checks paths and addresses.
func (l *login) completeWhere(cmd *cobra.Command) error {
	for _, path := range []*string{&l.secretFile, &l.tokenFile} {
		if *path == "" {
			continue
		}
		whole, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = whole // the configuration wants it so
	}
	if l.secretFile == l.tokenFile {
		return usage(cmd, "--client-secret-file and --token-file are the same file: name two")
	}
	for _, e := range []struct {
		to  *string
		key string
	}{{&l.oauthURL, "oauth"}, {&l.trackerURL, "tracker"}} {
		if *e.to == "" {
			continue
		}
		normal, err := config.Endpoint(e.key, *e.to)
		if err != nil {
			return usage(cmd, "--endpoint-%s: %w", e.key, err)
		}
		*e.to = normal
	}
	if l.listen == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(l.listen)
	if err != nil || !at.Addr().IsLoopback() || at.Port() == 0 {
		return usage(cmd, "--listen %q: it must be a loopback address and a port, such as 127.0.0.1:8976", l.listen)
	}
	return nil
}

// run logs in, stores, and tries.
func (l *login) run(ctx context.Context, cmd *cobra.Command) error {
	transport, err := daemon.Outside(l.caFile)
	if err != nil {
		return usage(cmd, "--ca-file: %w", err)
	}
	defer transport.CloseIdleConnections()
	// Before the person does anything: afterwards it would be for nothing.
	if err := oauth.CheckKeep(l.tokenFile); err != nil {
		return usage(cmd, "--token-file: %w", err)
	}
	var secret refresher.Value
	if !l.paste || l.secretFile != "" {
		if secret, err = l.secret(ctx); err != nil {
			return usage(cmd, "--client-secret-file: %w", err)
		}
	}
	l.client = oauth.NewClient(oauth.Config{URL: l.oauthURL, HTTP: transport, UserAgent: program + "/" + buildVersion().Version},
		oauth.App{ClientID: l.clientID, Secret: secret})
	got, err := l.flow(ctx)
	if err != nil {
		return err
	}
	if err := l.client.Keep(ctx, l.tokenFile, got); err != nil {
		return err
	}
	l.tell("The login is stored in %s%s.\n", l.tokenFile, l.lives(got))
	return l.prove(ctx, transport, got)
}

// tell says something to the person. Standard output is for the configuration.
func (l *login) tell(format string, args ...any) { _, _ = fmt.Fprintf(l.stderr, format, args...) }
