package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// format is the flag -o; it implements pflag.Value. It is json, or how people
// want it.
type format struct{ value, plain string }

// addOutput gives a command the flag -o.
func addOutput(cmd *cobra.Command, plain string) *format {
	f := &format{value: plain, plain: plain}
	cmd.Flags().VarP(f, "output", "o", plain+" or json")
	return f
}

func (f *format) String() string { return f.value }

// Type implements pflag.Value.
func (f *format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *format) Set(value string) error {
	if value != f.plain && value != "json" {
		return fmt.Errorf("it must be %s or json", f.plain)
	}
	f.value = value
	return nil
}

func (f *format) json() bool { return f.value == "json" }

func writeJSON(w io.Writer, doc any) error {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return errors.New("the answer cannot be written as JSON")
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
