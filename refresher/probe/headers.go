package probe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/template"
	"iam-token-refresher/refresher/textfile"
)

// headerTemplate makes one header of a value.
type headerTemplate struct {
	name  string // canonical
	text  string // of the value, from the configuration: what a file holds may be secret
	value template.Template
}

// render never tells in its error what was rendered.
func (h headerTemplate) render(value string) (string, error) {
	s := strings.TrimSpace(h.value.Fill(func(string) string { return value }))
	if !validHeaderValue(s) {
		return "", fmt.Errorf("the template of header %s gives %d bytes that cannot be put into a header", h.name, len(s))
	}
	return s, nil
}

// newHeaderTemplate finds every mistake that can be found without a token. The
// problem quotes nothing of the value.
func newHeaderTemplate(name, value string) (h headerTemplate, problem string) {
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, notInName) {
		return h, "is not a header's name"
	}
	h.name = http.CanonicalHeaderKey(name)
	switch h.name {
	case "Accept-Encoding", "Connection", "Content-Length", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return h, "is for the connection, not for the probe to set"
	}
	var err error
	if h.value, err = template.Parse(value, "Value"); err != nil {
		return h, "is not a template: only {{.Value}} can be used, like Bearer {{.Value}}"
	}
	if _, err := h.render("t1.sample"); err != nil {
		return h, "cannot be made into a header: write it on one line"
	}
	return h, ""
}

// notInName follows RFC 9110, 5.6.2.
func notInName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r < 0x80 && strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

// parseHeaders makes the templates of the config's headers, sorted by name.
func parseHeaders(headers map[string]string) ([]headerTemplate, error) {
	var list []headerTemplate
	var mistakes []error
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		h, problem := newHeaderTemplate(name, headers[name])
		if problem != "" {
			mistakes = append(mistakes, &refresher.Invalid{Field: "headers." + name, Problem: problem})
			continue
		}
		if slices.ContainsFunc(list, func(o headerTemplate) bool { return o.name == h.name }) {
			mistakes = append(mistakes, &refresher.Invalid{Field: "headers." + name, Problem: "is given twice, in another spelling"})
			continue
		}
		h.text = headers[name]
		list = append(list, h)
	}
	if len(mistakes) == 0 && !sendsValue(list) {
		mistakes = append(mistakes, &refresher.Invalid{Field: "headers", Problem: "none holds {{.Value}}: the token would not be tried"})
	}
	return list, invalid(mistakes)
}

// maxHeadersFile is far above what a server takes as headers.
const maxHeadersFile = 64 << 10

// readHeaders reads a headers file. Its errors name lines, never contents.
func readHeaders(path string) ([]headerTemplate, error) {
	f, _, err := textfile.Open(path, 0)
	if err != nil {
		return nil, fmt.Errorf("read headers_file: %w", err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxHeadersFile))
	if err != nil {
		return nil, fmt.Errorf("read headers_file %s: %w", path, err)
	}
	if content, err = textfile.Clean(content); err != nil {
		return nil, fmt.Errorf("headers_file %s %w", path, err)
	}
	var list []headerTemplate
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("headers_file %s, line %d: is not 'Name: template'", path, n)
		}
		h, problem := newHeaderTemplate(strings.TrimSpace(name), strings.TrimSpace(value))
		if problem != "" {
			return nil, fmt.Errorf("headers_file %s, line %d: %s", path, n, problem)
		}
		if slices.ContainsFunc(list, func(o headerTemplate) bool { return o.name == h.name }) {
			return nil, fmt.Errorf("headers_file %s, line %d: header %s is given twice", path, n, h.name)
		}
		list = append(list, h)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read headers_file %s: %w", path, err)
	}
	if !sendsValue(list) {
		return nil, fmt.Errorf("headers_file %s: no line holds {{.Value}}: the token would not be tried", path)
	}
	slices.SortFunc(list, func(a, b headerTemplate) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

// sendsValue tells whether any header depends on the value.
func sendsValue(list []headerTemplate) bool {
	return slices.ContainsFunc(list, func(h headerTemplate) bool { return h.value.Uses("Value") })
}
