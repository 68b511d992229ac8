package config

import (
	"io"
	"os"
	"strings"
)

// Glean reads what is well written of the Tokens and the Status of a
// configuration that Load refuses. It is for those who look for a daemon: that
// goes on with what it had read before somebody's slip. What has a mistake is
// left out, down to the options of one sink; where the file is not even YAML, the
// top-level section. The Config is never nil, and nothing in it is promised to be
// complete.
func Glean(path string, kinds Kinds, opt LoadOptions) *Config {
	var found Config
	f, err := os.Open(path)
	if err != nil {
		return &found
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes))
	if err != nil {
		return &found
	}
	for _, section := range sections(string(data)) {
		doc, err := parseDocument(path, []byte(section))
		if err != nil {
			continue
		}
		_, part := doc.config(kinds, opt)
		found.Tokens = append(found.Tokens, part.Tokens...)
		if s := part.Status; found.Status.Listen == "" && listenProblem(s.Listen) == "" {
			found.Status = s
		}
	}
	return &found
}

// sections cuts a text before each line that may begin with a key.
func sections(text string) (list []string) {
	var section strings.Builder
	for line := range strings.Lines(text) {
		if section.Len() > 0 && !strings.ContainsRune(" \t\r\n#-}]", rune(line[0])) {
			list = append(list, section.String())
			section.Reset()
		}
		section.WriteString(line)
	}
	return append(list, section.String())
}
