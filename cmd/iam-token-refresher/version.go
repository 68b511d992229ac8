package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version string

// build says what this program was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // there were changes beside the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildVersion() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b.named()
	}
	if b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b.named()
}

func (b build) named() build {
	if b.Version == "" {
		b.Version = "unknown"
	}
	return b
}

func (b build) String() string {
	commit := ""
	if b.Commit != "" {
		commit = " (commit " + b.Commit[:min(len(b.Commit), 12)]
		if b.Modified {
			commit += ", modified"
		}
		commit += ")"
	}
	return fmt.Sprintf("%s %s%s, %s, %s", program, b.Version, commit, b.Go, b.Platform)
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  iam-token-refresher version
  iam-token-refresher version -o json`,
		Args: noArgs,
	}
	output := addOutput(cmd, "text", asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output.json() {
			return writeJSON(a.stdout, buildVersion())
		}
		_, err := fmt.Fprintln(a.stdout, buildVersion())
		return err
	}
	return cmd
}
