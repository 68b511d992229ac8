package oauth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/textfile"
)

// Options is the source oauth: the token of a login that is kept fresh.
type Options struct {
	ClientID         string `yaml:"client_id" doc:"id of the registered application" check:"required"`
	ClientSecretFile string `yaml:"client_secret_file" doc:"file with the application's secret; a login without a refresh token (login --paste) needs none" check:"path"`
	TokenFile        string `yaml:"token_file" doc:"where iam-token-refresher login stored the login; it is rewritten at each refresh" check:"required,path"`
}

// Validate implements the check of the options.
func (o Options) Validate() error {
	var errs []error
	if !ValidClientID(o.ClientID) {
		errs = append(errs, &refresher.Invalid{Field: "client_id", Problem: "is not an application's id: its page at https://oauth.yandex.com shows it"})
	}
	if o.TokenFile == "" {
		errs = append(errs, &refresher.Invalid{Field: "token_file", Problem: "is missing; for example /var/lib/iam-token-refresher/oauth.json"})
	}
	return errors.Join(errs...)
}

// ValidClientID tells whether a text can be the id of an application. It goes
// into addresses and command lines that people copy.
func ValidClientID(id string) bool {
	return id != "" && len(id) <= 100 && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' || r == '.')
	})
}

// Rebuild lists the files that New reads: a change needs a new source.
func (o Options) Rebuild() []string {
	if o.ClientSecretFile == "" {
		return nil
	}
	return []string{o.ClientSecretFile}
}

// Inputs lists the files whose change should start a refresh.
func (o Options) Inputs() []string { return []string{o.TokenFile} }

// New makes the source. The login must be there and be ours; it is read again
// at each mint.
func (o Options) New(c Config) (refresher.Source, error) {
	s := &source{options: o}
	var secret refresher.Value
	if o.ClientSecretFile != "" {
		var err error
		if secret, err = ReadSecret(o.ClientSecretFile); err != nil {
			return nil, &refresher.Invalid{Field: "client_secret_file", Problem: err.Error()}
		}
	}
	s.application = newApplication(c, App{o.ClientID, secret})
	s.file = s.Logins.file(o.TokenFile)
	l, err := s.read()
	if err != nil {
		return nil, &refresher.Invalid{Field: "token_file", Problem: err.Error()}
	}
	if secret.IsZero() && !l.Refresh.IsZero() {
		return nil, &refresher.Invalid{Field: "client_secret_file", Problem: "is missing: the login is refreshed with the application's secret"}
	}
	if info, err := os.Stat(o.ClientSecretFile); err == nil {
		textfile.WarnIfExposed(s.Log, secretKind, o.ClientSecretFile, info)
	}
	return s, nil
}

const secretKind = "client secret file"

// ReadSecret reads an application's secret from a file.
func ReadSecret(path string) (refresher.Value, error) {
	f, _, err := openRegular(secretKind, path, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: write the secret into it, which the application's page at https://oauth.yandex.com shows, and chmod 600 it", err)
		}
		return refresher.Value{}, err
	}
	defer f.Close()
	content, err := readAll(secretKind, path, f)
	if err != nil {
		return refresher.Value{}, err
	}
	secret, err := clean(strings.TrimSpace(string(content)))
	if err != nil {
		return refresher.Value{}, fmt.Errorf("%s %s: what is in it %w", secretKind, path, err)
	}
	return secret, nil
}

// KeepSecret writes an application's secret into a file for [ReadSecret].
func KeepSecret(path, text string) error {
	if _, err := clean(text); err != nil {
		return fmt.Errorf("what was given %w", err)
	}
	return write(path, []byte(text+"\n"))
}
