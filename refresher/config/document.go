package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"iam-token-refresher/refresher/textfile"
)

// Limits of what is read. The YAML parser is recursive (also over the keys of
// one map) and expands nothing by itself; these keep it and us from being
// driven into the ground by a file that is not a configuration.
const (
	maxBytes      = 4 << 20 // 1,000 tokens take about half a megabyte
	maxFlowDepth  = 32
	maxColumn     = 200  // of a key or a dash that begins a line's structure
	maxKeys       = 1000 // in one map
	maxAliasNodes = 100_000
)

// document is a parsed file.
type document struct {
	name  string
	text  string
	lines []string
	body  ast.Node
	// aliases maps each alias to what it stands for.
	aliases map[*ast.AliasNode]ast.Node

	// unnamed: messages need not say which token they are about.
	unnamed bool
	masked  map[int]string
}

// place is a position in the text, both from 1; the zero place is none.
type place struct{ line, col int }

func (d *document) errorAt(at place, problem string) Error {
	problem = printable(problem)
	if at.line < 1 || at.line > len(d.lines) {
		return Error{File: d.name, Problem: maskShapes(problem), bare: problem}
	}
	return Error{
		File: d.name, Line: at.line, Col: max(at.col, 1),
		Problem: maskShapes(problem), Source: d.shown(at.line), bare: problem,
	}
}

// shown returns line n as it may be shown.
func (d *document) shown(n int) string {
	line, ok := d.masked[n]
	if !ok {
		if d.masked == nil {
			d.masked = map[int]string{}
		}
		line = maskLine(d.lines, n)
		d.masked[n] = line
	}
	return line
}

// parseDocument reads one YAML document. The error is an Errors.
func parseDocument(name string, data []byte) (doc *document, err error) {
	d := &document{name: name}
	if len(data) > maxBytes {
		return nil, Errors{d.errorAt(place{}, fmt.Sprintf("is larger than %d MB: this is no configuration", maxBytes>>20))}
	}
	text, at, problem := normalize(data)
	d.text = text
	d.lines = strings.Split(strings.ToValidUTF8(text, "\ufffd"), "\n")
	if problem != "" {
		return nil, Errors{d.errorAt(at, problem)}
	}
	defer func() {
		if p := recover(); p != nil {
			doc, err = nil, Errors{d.errorAt(place{}, "cannot be read as YAML: look for unusual characters, or brackets and quotes that are not closed")}
		}
	}()
	tokens := lexer.Tokenize(text)
	if at, problem := d.inspect(tokens); problem != "" {
		return nil, Errors{d.errorAt(at, problem)}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Errors{d.syntaxError(err)}
	}
	for _, one := range file.Docs {
		if one.Body != nil {
			d.body = one.Body
		}
	}
	if d.body == nil {
		return nil, Errors{d.errorAt(place{}, problemEmpty)}
	}
	if at, problem := d.resolve(d.body, map[string]ast.Node{}); problem != "" {
		return nil, Errors{d.errorAt(at, problem)}
	}
	return d, nil
}

var problemKeys = fmt.Sprintf("more than %d keys in one map", maxKeys)

const problemEmpty = "is empty: a configuration needs at least tokens, each with a name, a source and sinks"

// normalize returns the text with Unix line ends (the lexer counts others
// twice after comments) and without a byte order mark.
func normalize(data []byte) (text string, at place, problem string) {
	data, err := textfile.Clean(data)
	if err != nil {
		return "", place{}, err.Error()
	}
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	text = string(data)
	line, col := 1, 1
	for i, r := range text {
		switch {
		case r == '\n':
			line, col = line+1, 0
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			return text, place{line, col}, "a byte that is not UTF-8: save the file as UTF-8"
		case r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff':
			return text, place{line, col}, fmt.Sprintf("an invisible control character (%U): remove it", r)
		}
		col++
	}
	return text, place{}, ""
}

// inspect refuses what is not wanted, and what the parser would take too long
// or too deep a stack for.
func (d *document) inspect(tokens token.Tokens) (at place, problem string) {
	var (
		depth, deepest int // of flow collections; the rightmost column with keys counted
		keys           [maxColumn + 1]int
		content, ended bool
	)
	for _, tk := range tokens {
		here := place{tk.Position.Line, tk.Position.Column}
		switch tk.Type {
		case token.CommentType:
			continue
		case token.InvalidType:
			return here, syntaxProblem(tk.Error)
		case token.DocumentHeaderType:
			if content || ended {
				return here, "a second document begins here: one file holds one configuration"
			}
			ended = true
			continue
		case token.DocumentEndType:
			ended = true
			continue
		case token.DirectiveType:
			return here, "'%' cannot begin a value or a line here: write text in quotes"
		case token.TagType:
			return here, "YAML tags (!) are not used here: write text in quotes"
		case token.MappingKeyType:
			return here, "'?' keys are not used here: write key: value, and text in quotes"
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxFlowDepth {
				return here, "brackets are nested too deep"
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType, token.MappingValueType:
			if depth > 0 {
				break
			}
			if tk.Type == token.MappingValueType && tk.Prev != nil {
				here.col = tk.Prev.Position.Column
			}
			here.col = max(here.col, 0)
			if here.col > maxColumn {
				return here, "is nested too deep"
			}
			for ; deepest > here.col; deepest-- {
				keys[deepest] = 0
			}
			deepest = here.col
			if tk.Type == token.MappingValueType {
				if keys[here.col]++; keys[here.col] > maxKeys {
					return here, problemKeys
				}
			}
		}
		content = true
	}
	if !content {
		return place{}, problemEmpty
	}
	return place{}, ""
}

// resolve finds what each alias stands for.
func (d *document) resolve(n ast.Node, anchors map[string]ast.Node) (at place, problem string) {
	var children []ast.Node
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			children = append(children, v.Key, v.Value)
		}
	case *ast.MappingValueNode:
		children = append(children, n.Key, n.Value)
	case *ast.SequenceNode:
		children = n.Values
	case *ast.AnchorNode:
		// After its value: an alias inside of it would never end.
		if at, problem = d.resolve(n.Value, anchors); problem == "" {
			anchors[n.Name.GetToken().Value] = n.Value
		}
		return at, problem
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		target, ok := anchors[name]
		if !ok {
			return placeOf(n), fmt.Sprintf("no anchor %s comes before this alias", quotedKey("&"+name))
		}
		if d.aliases == nil {
			d.aliases = map[*ast.AliasNode]ast.Node{}
		}
		d.aliases[n] = target
	}
	for _, child := range children {
		if at, problem = d.resolve(child, anchors); problem != "" {
			return at, problem
		}
	}
	return place{}, ""
}

// placeOf returns where a node begins.
func placeOf(n ast.Node) place {
	switch n := n.(type) {
	case nil:
		return place{}
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return placeOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key)
	case *ast.LiteralNode:
		return placeOfToken(n.Start)
	}
	return placeOfToken(n.GetToken())
}

func placeOfToken(tk *token.Token) place {
	if tk == nil || tk.Position == nil {
		return place{}
	}
	return place{tk.Position.Line, max(tk.Position.Column, 1)}
}

func (d *document) syntaxError(err error) Error {
	var syntax interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &syntax) {
		return d.errorAt(place{}, "cannot be read as YAML")
	}
	at := placeOfToken(syntax.GetToken())
	if d.opensVariable(at) {
		return d.errorAt(at, "inside { } or [ ], text with a ${VARIABLE} needs quotes around it")
	}
	return d.errorAt(at, syntaxProblem(syntax.GetMessage()))
}

// opensVariable tells whether the brace of a ${ stands at a place.
func (d *document) opensVariable(at place) bool {
	if at.line < 1 || at.line > len(d.lines) {
		return false
	}
	line := []rune(d.lines[at.line-1])
	return at.col >= 2 && at.col <= len(line) && line[at.col-1] == '{' && line[at.col-2] == '$'
}

// What the parser says, and what helps the person who reads it.
var syntaxProblems = []struct{ message, problem string }{
	{"character '\t'", "a tab: YAML is indented with spaces only"},
	{"tab character", "a tab: YAML is indented with spaces only"},
	{"is a reserved character", "a value cannot begin with this character: write it in quotes"},
	{"end character of", "the quote that begins here is not closed"},
	{"unknown escape character", `a backslash inside "…" begins an escape that does not exist: write it twice, or use '…'`},
	{"mapping value is not allowed", `a second colon in one value: write text that holds ": " in quotes, and look whether the next line is indented too far`},
	{"flow mapping end token", "the { that begins here is not closed"},
	{"sequence end token", "the [ that begins here is not closed"},
	{"'[' character corresponding", "a ] without its ["},
	{"'{' character corresponding", "a } without its {"},
	{"',' or '}' must be specified", "a comma or a } is missing before this"},
	{"',' or ']' must be specified", "a comma or a ] is missing before this"},
	{"map key-value is pre-defined", "the key above has a value already: look at the indentation"},
	{"value is not allowed in this context", "does not belong here: look at the indentation, and write key: value"},
	{"non-map value is specified", "a key and a colon are expected here: look at the indentation"},
	{"unexpected key name", "a key and its colon belong on one line"},
	{"block sequence entries are not allowed", "a list begins on its own line: move this dash to the next line"},
	{"sequence was used where mapping", "a list where key: value is expected"},
}

func syntaxProblem(message string) string {
	for _, known := range syntaxProblems {
		if strings.Contains(message, known.message) {
			return known.problem
		}
	}
	return "this is not YAML: look at indentation, quotes, colons and brackets here and just above"
}
