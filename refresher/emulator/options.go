package emulator

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"
)

// What every emulator knows from the start.
const (
	// CloudOrgID is the one Cloud organization of the emulated Tracker.
	CloudOrgID = "bpfem0lat0rcl0ud0rg1"
	// OrgID is the same organization's number, for the X-Org-ID header.
	OrgID = "7654321"

	// BotAccount is the service account of key.json, of the federation and of
	// the virtual machine whose metadata service is emulated.
	BotAccount = "aje00000000000000bot"
	// TargetAccount may be impersonated by BotAccount.
	TargetAccount = "aje00000000000target"
	// OutsiderAccount may not be impersonated and has no access to Tracker.
	OutsiderAccount = "aje0000000000outside"
	// Person is the owner of oauth.token and of every login through OAuth.
	Person = "aje00000000000person"

	// ClientID and ClientSecret are those of the one registered OAuth application.
	ClientID     = "5f1e0e3b7c9d4a62b8d1f04c6a7e9b13"
	ClientSecret = "c0ffee5ec2e70fade7a11ca7ed0ddba1"

	// JWTAudience is the aud that IAM wants in the JWT of a service account
	// key: https://yandex.cloud/en/docs/iam/operations/iam-token/create-for-sa
	JWTAudience = "https://iam.api.cloud.yandex.net/iam/v1/tokens"

	// Issuer and Subject are those of oidc.jwt; Subject is linked to BotAccount.
	Issuer  = "https://issuer.iam-emulator.invalid"
	Subject = "system:serviceaccount:default:bot"
	// DefaultAudience is the aud that the federation wants in a subject token.
	DefaultAudience = "iam-emulator"
)

// The formats of issued IAM tokens.
const (
	FormatT1  = "t1"  // today's: t1.PAYLOAD.SIGNATURE
	FormatNew = "new" // made up: shares no prefix and no shape with today's
)

// Options say what to emulate. The zero value of each field but Dir is usable.
type Options struct {
	// Dir is where the files go; it is made when missing. One emulator at a
	// time can use it. Required.
	Dir string
	// Listen is the address for everything but the admin service: a host
	// (ports are then chosen by the system) or host:port (the services then
	// take that port and those after it, in the order of [Endpoints]). Empty:
	// 127.0.0.1.
	Listen string
	// MetadataListen is a host:port for the metadata service alone, such as
	// 169.254.169.254:80, which SDKs have built in. Empty: as Listen says.
	MetadataListen string
	// Names are further host names and addresses for the certificate.
	Names []string

	// TokenLifetime is how long issued IAM tokens live; 0: 12h.
	TokenLifetime time.Duration
	// ReissueUntil is the share of a token's lifetime, 0 to 1, in which the same
	// token is given again to the same account. 0: each token is new.
	ReissueUntil float64
	// TokenFormat is FormatT1 (also when empty) or FormatNew.
	TokenFormat string
	// Accounts is how many further service accounts with a key file each there
	// are, at most 100,000. They share one RSA key.
	Accounts int
	// ClockOffset is how far the services' clock is ahead of ours.
	ClockOffset time.Duration

	// JWKS is a file with the RSA keys of an OIDC issuer, as
	// `kubectl get --raw /openid/v1/jwks` prints. Tokens they signed are
	// accepted from any issuer, for any subject that is not linked to another
	// account (see [Emulator.LinkSubject]), if exp and aud fit.
	JWKS string
	// Audience is the aud that subject tokens must have; empty: DefaultAudience.
	Audience string
	// SubjectLifetime is the lifetime of oidc.jwt, which is written anew at
	// 80 % of it; 0: 1h.
	SubjectLifetime time.Duration

	// OAuthLifetime is how long OAuth access tokens live; 0: 365 days.
	OAuthLifetime time.Duration
	// RefreshGrace is how long a refresh token works after it was used. 0: once.
	RefreshGrace time.Duration
	// DeviceInterval is how long a client must wait between two polls for a
	// device code, in whole seconds; 0: 5s.
	DeviceInterval time.Duration
	// DeviceLifetime is how long a device code and a confirmation code live; 0: 10m.
	DeviceLifetime time.Duration

	// RSA is the key that the key files share; nil: a new one, which takes about
	// 0.1 s to make (much longer with the race detector).
	RSA *rsa.PrivateKey
	// KeepIssued is how many issued values [Emulator.Issued] remembers; 0: 50,000.
	KeepIssued int
	// Log takes each request at debug, without secrets; nil: none.
	Log *slog.Logger
}

// Endpoints are the addresses of the services, as endpoints.json has them.
type Endpoints struct {
	API           string `json:"api"`            // host:port, gRPC and HTTPS
	IAM           string `json:"iam"`            // host:port, gRPC and HTTPS
	Metadata      string `json:"metadata"`       // http URL without a path
	TokenExchange string `json:"token_exchange"` // https URL with its path
	OAuth         string `json:"oauth"`          // https URL without a path
	Tracker       string `json:"tracker"`        // https URL without a path
	Admin         string `json:"admin"`          // http URL without a path
}

// withDefaults fills in what was left out and says what is wrong with the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, &OptionError{errors.New("no directory given to write the files to")}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("find directory %s: %w", o.Dir, err)
	}
	o.Dir = dir

	setDefault(&o.Listen, "127.0.0.1")
	setDefault(&o.TokenLifetime, 12*time.Hour)
	setDefault(&o.TokenFormat, FormatT1)
	setDefault(&o.Audience, DefaultAudience)
	setDefault(&o.SubjectLifetime, time.Hour)
	setDefault(&o.OAuthLifetime, 365*24*time.Hour)
	setDefault(&o.DeviceInterval, 5*time.Second)
	setDefault(&o.DeviceLifetime, 10*time.Minute)
	setDefault(&o.KeepIssued, 50_000)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	var wrong []error
	refuse := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	refuse(o.TokenLifetime < time.Second || o.TokenLifetime > 12*time.Hour,
		"token lifetime %s: want between 1s and 12h, as IAM's", o.TokenLifetime)
	refuse(!(o.ReissueUntil >= 0 && o.ReissueUntil <= 1),
		"reissue until %v: want a share of the lifetime between 0 and 1", o.ReissueUntil)
	refuse(o.TokenFormat != FormatT1 && o.TokenFormat != FormatNew,
		"token format %q: want %q or %q", o.TokenFormat, FormatT1, FormatNew)
	refuse(o.Accounts < 0 || o.Accounts > 100_000, "%d accounts: want between 0 and 100,000", o.Accounts)
	refuse(o.SubjectLifetime < time.Second, "subject token lifetime %s: want at least 1s", o.SubjectLifetime)
	refuse(o.OAuthLifetime < time.Second, "OAuth token lifetime %s: want at least 1s", o.OAuthLifetime)
	refuse(o.DeviceInterval < time.Second || o.DeviceInterval%time.Second != 0,
		"device poll interval %s: want whole seconds", o.DeviceInterval)
	refuse(o.DeviceLifetime < time.Second, "device code lifetime %s: want at least 1s", o.DeviceLifetime)
	refuse(o.RefreshGrace < 0, "refresh token grace %s: want none or more", o.RefreshGrace)
	refuse(o.KeepIssued < 0, "%d issued values to keep: want none or more", o.KeepIssued)
	if _, _, err := splitListen(o.Listen); err != nil {
		wrong = append(wrong, err)
	}
	if o.MetadataListen != "" {
		if _, _, err := net.SplitHostPort(o.MetadataListen); err != nil {
			wrong = append(wrong, fmt.Errorf("metadata listen address: %w; want host:port", err))
		}
	}
	if o.JWKS != "" {
		if _, err := os.Stat(o.JWKS); err != nil {
			wrong = append(wrong, fmt.Errorf("JWKS file: %w", err))
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return o, &OptionError{err}
	}
	return o, nil
}

// OptionError says that an emulator cannot be started with these options.
type OptionError struct{ err error }

func (e *OptionError) Error() string { return e.err.Error() }
func (e *OptionError) Unwrap() error { return e.err }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
