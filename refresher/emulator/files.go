package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The files in Options.Dir.
const (
	fileCA             = "ca.pem"
	fileKey            = "key.json"
	fileOAuthToken     = "oauth.token"
	fileOAuthSecret    = "oauth.secret"
	fileSubject        = "oidc.jwt"
	fileConfig         = "config.yaml"
	fileAccountsConfig = "config-accounts.yaml"
	fileReady          = "endpoints.json"
	dirKeys            = "keys"
	dirTokens          = "tokens"
	dirState           = "state"
)

func (e *Emulator) path(elem ...string) string {
	return filepath.Join(append([]string{e.o.Dir}, elem...)...)
}

// writeFiles writes everything, and last the file that says so.
func (e *Emulator) writeFiles() error {
	if err := e.removeLeftovers(); err != nil {
		return err
	}
	bot, err := e.NewKey(BotAccount, KeyOptions{})
	if err != nil {
		return err
	}
	login := e.NewLogin("")
	config, err := e.config()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		mode    fs.FileMode
		content string
	}{
		{fileCA, 0o644, string(e.authority.pem)},
		{fileKey, 0o600, string(bot.File)},
		{fileOAuthToken, 0o600, login.AccessToken + "\n"},
		{fileOAuthSecret, 0o600, ClientSecret + "\n"},
		{fileConfig, 0o644, config},
	} {
		if err := replaceFile(e.path(f.name), f.content, f.mode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(e.path(dirState), 0o700); err != nil {
		return fmt.Errorf("make the daemon's state directory: %w", err)
	}
	if err := e.writeAccounts(); err != nil {
		return err
	}
	e.subject = &subjectWriter{e: e}
	if err := e.subject.write(); err != nil {
		return err
	}
	e.serving.Go(e.subject.run)

	ready, err := json.MarshalIndent(e.endpoints, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the endpoints: %w", err)
	}
	return replaceFile(e.path(fileReady), string(ready)+"\n", 0o644)
}

// removeLeftovers removes what an earlier emulator wrote and this one may not
// write again, first of all the file that says that everything is ready.
func (e *Emulator) removeLeftovers() error {
	for _, name := range []string{fileReady, fileAccountsConfig} {
		if err := os.Remove(e.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old file: %w", err)
		}
	}
	old, _ := filepath.Glob(e.path(dirKeys, "[0-9]*.json"))
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove an old key file: %w", err)
		}
	}
	return nil
}

// writeAccounts writes the key files and the configuration of Options.Accounts.
func (e *Emulator) writeAccounts() error {
	if e.o.Accounts == 0 {
		return nil
	}
	for _, name := range []string{dirKeys, dirTokens} {
		if err := os.MkdirAll(e.path(name), 0o700); err != nil {
			return fmt.Errorf("make a directory for the accounts: %w", err)
		}
	}
	names := make([]string, e.o.Accounts)
	width := max(4, len(strconv.Itoa(e.o.Accounts)))
	for i := range names {
		names[i] = fmt.Sprintf("%0*d", width, i+1)
		key, err := e.NewKey(AccountID(i+1), KeyOptions{})
		if err != nil {
			return err
		}
		// Nobody reads these before endpoints.json is there: no rename needed.
		if err := os.WriteFile(e.path(dirKeys, names[i]+".json"), key.File, 0o600); err != nil {
			return fmt.Errorf("write a key file: %w", err)
		}
	}
	return replaceFile(e.path(fileAccountsConfig), e.accountsConfig(names), 0o644)
}

func (e *Emulator) removeReadyFile() error {
	if err := os.Remove(e.path(fileReady)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", fileReady, err)
	}
	return nil
}

// replaceFile writes a file so that readers see the old content or the new.
func replaceFile(name, content string, mode fs.FileMode) error {
	fail := func(err error) error { return fmt.Errorf("write %s: %w", name, err) }
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fail(err)
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fail(err)
	}
	return nil
}

// subjectWriter keeps oidc.jwt fresh as the kubelet does: it is written anew
// at 80 % of its life.
type subjectWriter struct {
	e  *Emulator
	mu sync.Mutex // one writer at a time
}

func (s *subjectWriter) write() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := s.e.SignSubject(SubjectClaims{})
	if err != nil {
		return err
	}
	return replaceFile(s.e.path(fileSubject), raw, 0o600)
}

func (s *subjectWriter) run() {
	every := time.NewTicker(s.e.o.SubjectLifetime * 8 / 10)
	defer every.Stop()
	for {
		select {
		case <-s.e.done:
			return
		case <-every.C:
			if err := s.write(); err != nil {
				s.e.o.Log.Error("the subject token was not renewed", "error", err)
			}
		}
	}
}

// quoted is a path as a YAML string.
func quoted(path string) string {
	b, _ := json.Marshal(path) // a JSON string is a YAML string
	return string(b)
}

// validPath tells whether the daemon's configuration can hold the path, in
// which it expands variables.
func validPath(path string) error {
	if strings.Contains(path, "$") {
		return fmt.Errorf("the directory %s has a $ in its name, which a configuration file cannot hold: use another", path)
	}
	return nil
}
