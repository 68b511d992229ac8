package main

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink"
)

// The formats that a value is printed in.
const (
	asValue          = "value"
	asJSON           = "json"
	asHeader         = "header"
	asEnv            = "env"
	asExecCredential = "exec-credential"
)

// envExecInfo is what kubectl says to its plugins:
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#input-and-output-formats
const envExecInfo = "KUBERNETES_EXEC_INFO"

// printer knows how a value is to be printed.
type printer struct {
	format     string
	variable   string // of the format env
	apiVersion string // of an exec credential
	newline    bool
}

// unknownEnd is how long a client may keep a value whose end nobody knows, as
// on the metadata routes.
const unknownEnd = time.Minute

// text is what is printed of v.
func (p printer) text(v value, now time.Time) (text string, err error) {
	switch p.format {
	case asJSON:
		text, err = v.json()
	case asHeader:
		scheme := "Bearer"
		if v.Type == refresher.TypeOAuth {
			scheme = "OAuth"
		}
		text = "Authorization: " + scheme + " " + v.Value
	case asEnv:
		text, err = sink.EnvLine(p.variable, v.Value)
	case asExecCredential:
		text, err = p.execCredential(v, now)
	default:
		text = v.Value
	}
	if text = strings.TrimSuffix(text, "\n"); p.newline {
		text += "\n"
	}
	return text, err
}

// json is what the daemon said, or as much of it as a file tells.
func (v value) json() (string, error) {
	if v.document != nil {
		return string(v.document), nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// execCredential follows the same page as [envExecInfo].
func (p printer) execCredential(v value, now time.Time) (string, error) {
	type status struct {
		Expires string `json:"expirationTimestamp"`
		Token   string `json:"token"`
	}
	ends := now.Add(unknownEnd)
	if v.ExpiresAt != nil {
		ends = *v.ExpiresAt
	}
	b, err := json.Marshal(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Status     status `json:"status"`
	}{p.apiVersion, "ExecCredential", status{ends.UTC().Format(time.RFC3339), v.Value}})
	return string(b), err
}

// execAPIVersion is the one that kubectl wants.
func execAPIVersion(cmd *cobra.Command, info string) (string, error) {
	const group = "client.authentication.k8s.io/"
	var asked struct {
		APIVersion string `json:"apiVersion"`
	}
	if info != "" && json.Unmarshal([]byte(info), &asked) != nil {
		return "", usage(cmd, "%s is not the JSON that kubectl sets", envExecInfo)
	}
	switch version := cmp.Or(asked.APIVersion, group+"v1"); version {
	case group + "v1", group + "v1beta1":
		return version, nil
	default:
		return "", usage(cmd, "%s asks for %q: set apiVersion: %sv1 for this command in kubeconfig", envExecInfo, version, group)
	}
}
