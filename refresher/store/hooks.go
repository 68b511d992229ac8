package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// hooksSuffix ends the names of the records of what was done for a token's
// versions. There are no secrets in them.
const hooksSuffix = ".hooks"

func (s *Store) hooksPath(token string) (string, error) {
	name, err := fileName(token)
	return filepath.Join(s.dir, strings.TrimSuffix(name, suffix)+hooksSuffix), err
}

// LoadHooks returns what [Store.SaveHooks] saved last: nothing for a token of
// which nothing was saved.
func (s *Store) LoadHooks(token string) (map[string]string, error) {
	path, err := s.hooksPath(token)
	if err != nil {
		return nil, err
	}
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var done map[string]string
	if err == nil {
		err = json.Unmarshal(data, &done)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of hooks %s: %w", path, bare(err))
	}
	return done, nil
}

// SaveHooks makes durable which version, by its ETag, the hook of each sink has
// seen.
func (s *Store) SaveHooks(token string, done map[string]string) error {
	path, err := s.hooksPath(token)
	if err != nil {
		return err
	}
	data, err := json.Marshal(done)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	if err := s.write(path, append(data, '\n')); err != nil {
		return fmt.Errorf("write the record of hooks: %w", err)
	}
	return nil
}
