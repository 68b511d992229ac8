package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"iam-token-refresher/refresher/emulator"
)

const long = `A stand-in for Yandex Cloud's IAM and what surrounds it: IAM over gRPC and REST,
endpoint discovery, the metadata service, the exchange of OIDC tokens, Yandex
OAuth, and Tracker's "myself". It runs on loopback with a CA of its own, checks
what the real services check, and breaks on demand.

It writes into DIR: ca.pem, key.json (a service account key), oauth.token,
oauth.secret (of the OAuth application), oidc.jwt, config.yaml (ready for
iam-token-refresher) and, last, endpoints.json: once that is there, everything is
ready. All of it is made anew at each start.

"admin" in endpoints.json is an HTTP address: GET / lists what it can do, such as
POST /faults, POST /revoke and GET /calls.`

const example = `  iam-emulator --dir /tmp/cloud                       # in one shell
  iam-token-refresher run --config /tmp/cloud/config.yaml   # in another

  # Hours made short: tokens live a minute and are re-issued for 90 % of it.
  iam-emulator --dir /tmp/cloud --token-lifetime 60s --reissue-until 90%

  # An outage of IAM for ten seconds, then a look at what was called.
  admin=$(sed -n 's/.*"admin": "\(.*\)".*/\1/p' /tmp/cloud/endpoints.json)
  curl -d '{"service":"iam","kind":"error","status":503,"for":"10s"}' $admin/faults
  curl $admin/calls

  # The daemon's token is revoked.
  curl -d "{\"token\":\"$(cat /tmp/cloud/bot.token)\"}" $admin/revoke

  # The person enters the code that "iam-token-refresher login" shows.
  curl -d '{"decision":"approve"}' $admin/oauth/devices/CODE`

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

func exitCode(err error) int {
	var usage usageError
	var option *emulator.OptionError
	if errors.As(err, &usage) || errors.As(err, &option) {
		return exitUsage
	}
	return exitFailed
}

func newCommand() *cobra.Command {
	var o emulator.Options
	var reissue share
	level := "info"
	cmd := &cobra.Command{
		Use:           "iam-emulator --dir DIR",
		Short:         "A stand-in for Yandex Cloud's IAM",
		Long:          long,
		Example:       example,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%q is not a flag: see --help", args[0])}
			}
			return nil
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Dir == "" {
				return usageError{errors.New("--dir is missing: say where the files go, such as --dir /tmp/cloud")}
			}
			log := slog.LevelInfo
			if err := log.UnmarshalText([]byte(level)); err != nil {
				return usageError{fmt.Errorf("--log %q: want debug, info, warn or error", level)}
			}
			o.ReissueUntil = float64(reissue)
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: log}))
			return serve(cmd, o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w: see --help", err)}
	})
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory for the files; made if missing (required)")
	f.StringVar(&o.Listen, "listen", "127.0.0.1", "host or host:port to listen on; with a port, the seven services take it and the next six")
	f.StringVar(&o.MetadataListen, "metadata-listen", "", "host:port for the metadata service, such as 169.254.169.254:80")
	f.StringSliceVar(&o.Names, "name", nil, "further host name or address for the certificate; may be repeated")
	f.DurationVar(&o.TokenLifetime, "token-lifetime", 0, "how long IAM tokens live (default 12h)")
	f.Var(&reissue, "reissue-until", "share of the lifetime, such as 90%, in which the same token is given again")
	f.StringVar(&o.TokenFormat, "token-format", emulator.FormatT1, "format of IAM tokens: t1 (today's) or new (made up)")
	f.IntVar(&o.Accounts, "accounts", 0, "number of further service accounts, with keys/NNNN.json and config-accounts.yaml")
	f.DurationVar(&o.ClockOffset, "clock-offset", 0, "how far the services' clock is ahead of ours; may be negative")
	f.StringVar(&o.JWKS, "jwks", "", "file with the keys of an OIDC issuer whose tokens are exchanged, as \"kubectl get --raw /openid/v1/jwks\" prints")
	f.StringVar(&o.Audience, "audience", emulator.DefaultAudience, "audience that OIDC tokens must have")
	f.DurationVar(&o.SubjectLifetime, "oidc-lifetime", 0, "how long oidc.jwt lives; it is renewed at 80 % of that (default 1h)")
	f.DurationVar(&o.OAuthLifetime, "oauth-lifetime", 0, "how long OAuth tokens live (default 8760h)")
	f.DurationVar(&o.RefreshGrace, "refresh-grace", 0, "how long a used OAuth refresh token goes on working (default 0s: works once)")
	f.DurationVar(&o.DeviceInterval, "device-interval", 0, "how long to wait between polls of the device flow (default 5s)")
	f.DurationVar(&o.DeviceLifetime, "code-lifetime", 0, "how long device and confirmation codes live (default 10m)")
	f.StringVar(&level, "log", level, "debug shows every request, without secrets")
	return cmd
}

// serve runs the emulator until the context ends.
func serve(cmd *cobra.Command, o emulator.Options) error {
	e, err := emulator.Start(cmd.Context(), o)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		dir = o.Dir
	}
	config := filepath.Join(dir, "config.yaml")
	if o.Accounts > 0 {
		config = filepath.Join(dir, "config-accounts.yaml")
	}
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), "The stand-in cloud is ready in %s. Next, in another shell: iam-token-refresher run --config %s\n", dir, config)
	<-cmd.Context().Done()
	return e.Close()
}

// share is a flag that takes 90% or 0.9.
type share float64

func (s *share) String() string { return strconv.FormatFloat(float64(*s)*100, 'g', -1, 64) + "%" }

func (s *share) Type() string { return "share" }

func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || math.IsNaN(v) || v < 0 || v > 1 {
		return errors.New("want a share such as 90% or 0.9")
	}
	*s = share(v)
	return nil
}
