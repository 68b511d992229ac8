package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTheSchemaDescribesEveryOption(t *testing.T) {
	t.Parallel()
	text := Schema(fakeKinds())
	if !bytes.Equal(text, Schema(fakeKinds())) {
		t.Error("the schema is another one each time")
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	get := func(path string) any {
		var at any = root
		for key := range strings.SplitSeq(path, " ") {
			m, ok := at.(map[string]any)
			if !ok {
				t.Fatalf("%s: nothing at %s", path, key)
			}
			at = m[key]
		}
		return at
	}
	token := "properties tokens items properties "
	for path, want := range map[string]any{
		"$schema":                             "https://json-schema.org/draft/2020-12/schema",
		"additionalProperties":                false,
		"properties tokens minItems":          1.0,
		"properties limits properties mints":  nil,
		token + "required default":            true,
		token + "source additionalProperties": false,
		token + "source properties service_account_key properties file pattern":                  pathPattern,
		token + "source properties command properties timeout default":                           "30s",
		token + "refresh properties schedule default":                                            "@every 1h",
		token + "sinks items properties socket properties allow properties users type":           "array",
		token + "sinks items properties env_file properties variables additionalProperties type": "string",
		token + "sinks items properties file properties mode default":                            "0600",
		token + "sinks items properties metadata properties default type":                        "boolean",
		"properties limits properties probes_per_second default":                                 5.0,
		"properties state_dir pattern":                                                           pathPattern,
		token + "sinks items properties file properties path description":                        "the file",
		token + "sinks items properties file description":                                        "a file",
		token + "sinks items properties socket properties allow properties users items type":     "string",
		token + "source properties command properties argv minItems":                             1.0,
		token + "source properties workload_identity properties service_account_id minLength":    1.0,
	} {
		if got := get(path); want != nil && got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if n := len(get(token + "source oneOf").([]any)); n != len(fakeKinds().Sources) {
		t.Errorf("one of %d sources", n)
	}
	checkSchema(t, "", root)
}

// checkSchema checks the structure that every schema of ours has.
func checkSchema(t *testing.T, path string, node map[string]any) {
	t.Helper()
	known := []string{"$schema", "title", "type", "properties", "additionalProperties", "required", "description", "default", "enum", "pattern", "minLength", "minItems", "minProperties", "items", "oneOf", "anyOf", "const"}
	for key := range node {
		if !slices.Contains(known, key) {
			t.Errorf("%s: keyword %q", path, key)
		}
	}
	properties, _ := node["properties"].(map[string]any)
	if required, ok := node["required"].([]any); ok && node["type"] != nil {
		for _, key := range required {
			if _, ok := properties[key.(string)]; !ok {
				t.Errorf("%s: requires %v, which it has not", path, key)
			}
		}
	}
	for key, p := range properties {
		checkSchema(t, path+"/"+key, p.(map[string]any))
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, ok := node[key].(map[string]any); ok {
			checkSchema(t, path+"/"+key, inner)
		}
	}
}

func TestTheReferenceNamesEveryOptionOnce(t *testing.T) {
	t.Parallel()
	text := Reference(fakeKinds())
	if rule := fmt.Sprintf("1 to %d letters, digits, dots, dashes or underscores, a letter or digit first", maxName); !strings.Contains(text, rule) {
		t.Errorf("it does not say what a name is: %s", rule)
	}
	for _, row := range []string{
		"| `state_dir` | directory |",
		"| `refresh.schedule` | schedule | `@every 1h` |",
		"| `log.level` | `debug`, `info`, `warn`, `error` | `info` |",
		"| `allow.users` | list of text |  | users that may read |",
		"| `rejected` | list of number | `[401, 403]` |",
		"#### `service_account_key`\n\nSigns with a key.\n\n",
		"| `timeout` | duration | `30s` |",
		"| `--key-file` | `ITR_KEY_FILE` | `source.service_account_key.file` |",
	} {
		if strings.Count(text, row) != 1 {
			t.Errorf("%d times: %s", strings.Count(text, row), row)
		}
	}
}
