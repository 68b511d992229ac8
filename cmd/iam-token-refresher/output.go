package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// format is the flag -o; it implements pflag.Value.
type format struct {
	value   string
	allowed []string
}

// addOutput gives a command the flag -o: json, or the first for people.
func addOutput(cmd *cobra.Command, allowed ...string) *format {
	f := &format{value: allowed[0], allowed: allowed}
	cmd.Flags().VarP(f, "output", "o", list(allowed, "or"))
	return f
}

func (f *format) String() string { return f.value }

// Type implements pflag.Value.
func (f *format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *format) Set(value string) error {
	if !slices.Contains(f.allowed, value) {
		return fmt.Errorf("it must be %s", list(f.allowed, "or"))
	}
	f.value = value
	return nil
}

func (f *format) json() bool { return f.value == asJSON }

// list joins words as a person would.
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return fmt.Sprintf("%s %s %s", strings.Join(words[:len(words)-1], ", "), last, words[len(words)-1])
}

func writeJSON(w io.Writer, doc any) error {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return errors.New("the answer cannot be written as JSON")
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
