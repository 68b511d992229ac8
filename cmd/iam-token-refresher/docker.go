package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/redact"
)

// dockerHelper is the name that Docker finds its helper by: "iam-token-refresher"
// in credHelpers or credsStore.
const dockerHelper = "docker-credential-" + program

// arguments are those of the command line. Called by the name of Docker's
// helper, the program is that sub-command.
func arguments(argv []string) []string {
	if len(argv) > 0 && filepath.Base(argv[0]) == dockerHelper {
		return append([]string{"docker-credential"}, argv[1:]...)
	}
	return argv[min(1, len(argv)):]
}

// registries are the vendor's: those that "yc container registry
// configure-docker" enters, Cloud Registry and the Kazakhstan region.
// https://yandex.cloud/en/docs/container-registry/operations/authentication
// https://yandex.cloud/en/docs/cloud-registry/operations/docker/authentication
//
// They are whole names on purpose: under some of the cloud's domains anybody
// can have a host.
var registries = []string{
	"cr.yandex", "cr.cloud.yandex.net", "container-registry.cloud.yandex.net",
	"registry.yandexcloud.net", "cr.yandexcloud.kz",
}

// envRegistries names more registries that may have the token.
const envRegistries = "ITR_REGISTRIES"

// What Docker's helpers say; docker knows these texts:
// https://github.com/docker/docker-credential-helpers#development
var (
	errNoCredentials = errors.New("credentials not found in native keychain")
	errNoServer      = errors.New("no credentials server URL")
)

func (a *app) dockerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "docker-credential get|list|store|erase",
		Short: "Speak Docker's protocol of credential helpers",
		Long: `Gives Docker the current token for the registries of Yandex Cloud, so that nobody
needs "docker login". Docker calls it by the name ` + dockerHelper + `:
a link of that name to this program, somewhere in PATH. Only "get" and "list" do
something.

The token is the one that ITR_TOKEN names, the only one on the socket, or the one
marked "default: true"; ITR_SOCKET names the socket. ITR_REGISTRIES names further
registries (host or host:port, between commas) that may have it.`,
		Example: `  ln -s "$(command -v iam-token-refresher)" /usr/local/bin/` + dockerHelper + `

  # ~/.docker/config.json:
  #   {"credHelpers": {"cr.yandex": "iam-token-refresher"}}

  echo cr.yandex | ` + dockerHelper + ` get`,
		ValidArgs: []string{"get", "list", "store", "erase", "version"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return usage(cmd, "say what to do: get, list, store, erase or version")
			}
			return nil
		},
	}
	w := addWhereabouts(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := a.dockerAnswer(cmd, w, args[0])
		if err != nil { // docker reads it from there
			var filter redact.Filter
			_, _ = fmt.Fprintln(a.stdout, filter.String(err.Error()))
			return errSaid
		}
		_, err = fmt.Fprintln(a.stdout, text)
		return err
	}
	return cmd
}

// maxServer is more than an address takes.
const maxServer = 4 << 10

func (a *app) dockerAnswer(cmd *cobra.Command, w *whereabouts, action string) (string, error) {
	known := append(slices.Clone(registries), strings.FieldsFunc(a.env(envRegistries), func(r rune) bool { return r == ',' || r == ' ' })...)
	switch action {
	case "version":
		return buildVersion().String(), nil
	case "list":
		users := map[string]string{}
		for _, host := range known {
			users[host] = "iam"
		}
		return jsonText(users)
	}
	input, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxServer))
	if err != nil {
		return "", fmt.Errorf("read what docker asks: %w", err)
	}
	server := strings.TrimSpace(string(input))
	switch {
	case action != "get":
		return "", fmt.Errorf("%s %s: nothing is stored here: the token comes from the running daemon, docker login and logout are not needed", dockerHelper, action)
	case server == "":
		return "", errNoServer
	case !slices.Contains(known, hostOf(server)):
		return "", errNoCredentials
	}
	g, err := a.getter(cmd, w, false, 0)
	if err != nil {
		return "", err
	}
	name, err := g.name(cmd, nil)
	if err != nil {
		return "", err
	}
	v, err := g.get(cmd.Context(), name)
	if err != nil {
		return "", err
	}
	user := "iam"
	if v.Type == refresher.TypeOAuth {
		user = "oauth"
	}
	return jsonText(struct{ ServerURL, Username, Secret string }{server, user, v.Value})
}

func jsonText(doc any) (string, error) {
	b, err := json.Marshal(doc)
	return string(b), err
}

// hostOf is the host of an address as docker gives it: with a scheme or
// without, with a path perhaps. What looks like a scheme behind a slash is of
// the path, which whoever names a registry chooses.
func hostOf(server string) string {
	if scheme, rest, ok := strings.Cut(server, "://"); ok && !strings.Contains(scheme, "/") {
		server = rest
	}
	host, _, _ := strings.Cut(server, "/")
	return strings.TrimSuffix(strings.ToLower(host), ":443")
}
