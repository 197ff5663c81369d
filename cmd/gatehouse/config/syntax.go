package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of the YAML file. The parser is recursive and has none of its own.
const (
	maxFile  = 1 << 20
	maxDepth = 32
)

// parseYAML returns the root mapping of the file's only document. It returns nil with nothing
// reported when the file is empty, and nil with problems reported when it cannot be used.
func parseYAML(data []byte, r *report) ast.MapNode {
	if len(data) > maxFile {
		r.whole("is larger than %d KiB: split what belongs to other tools off", maxFile>>10)
		return nil
	}
	// The lexer counts a carriage return after a comment as a line of its own.
	data = bytes.ReplaceAll(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\r\n"), []byte("\n"))
	if line, column, ok := badCharacter(data); !ok {
		r.syntax(line, column, "the file is not UTF-8 text: save it as UTF-8")
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if refuseTokens(tokens, r); len(r.problems) > 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntaxError(err)
		return nil
	}
	var root ast.Node
	for i, doc := range file.Docs {
		if i > 0 {
			line, column := 1, 1
			if doc.Start != nil {
				line, column = doc.Start.Position.Line, doc.Start.Position.Column
			}
			r.syntax(line, column, "a second document begins here: keep everything in one")
			return nil
		}
		root = doc.Body
	}
	switch root := root.(type) {
	case nil, *ast.NullNode:
		return nil
	case ast.MapNode:
		return root
	default:
		at := root.GetToken().Position
		r.syntax(at.Line, at.Column, "the file holds %s: write keys such as %s", describe(root), r.such)
		return nil
	}
}

// badCharacter returns where the first byte stands that is not of a text.
func badCharacter(data []byte) (line, column int, ok bool) {
	line, column = 1, 1
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size <= 1 || c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			return line, column, false
		}
		i, column = i+size, column+1
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return 0, 0, true
}

// refuseTokens reports what YAML offers and a configuration does not need, and nesting that
// would cost the parser its stack.
func refuseTokens(tokens token.Tokens, r *report) {
	flow, line, entries := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		refuse := func(format string, args ...any) {
			r.syntax(t.Position.Line, t.Position.Column, format, args...)
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			refuse("anchors, aliases and merge keys are not supported: write the value out")
		case token.TagType:
			refuse("tags such as %s are not supported: put text in quotes where its type is in doubt", quoted(t.Value))
		case token.DirectiveType:
			refuse("directives are not supported: remove the line")
		case token.MappingKeyType:
			refuse("keys that begin with ? are not supported: write key: value")
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType:
			entries++
		}
		if flow > maxDepth || entries > maxDepth {
			refuse("lists and mappings are nested too deeply")
			return
		}
	}
}

// syntaxError reports what the parser says, without the excerpt of the file that it adds.
func (r *report) syntaxError(err error) {
	var se *yaml.SyntaxError
	if !errors.As(err, &se) || se.Token == nil {
		r.whole("is not YAML: %s", redact(err.Error()))
		return
	}
	at, message := se.Token.Position, redact(se.Message)
	switch {
	case strings.Contains(message, `'	' that cannot start`):
		// The position is that of the line break before the tab.
		message = "the line is indented with a tab: use blanks"
	case strings.Contains(message, "flow map content"), strings.Contains(message, "flow mapping"):
		message += ": put text with { or {{ in quotes"
	case strings.HasPrefix(message, "mapping value is not allowed"):
		message += ": put text with a colon in quotes"
	case strings.HasPrefix(message, "value is not allowed"):
		message += ": compare the indentation with the lines above"
	}
	r.syntax(at.Line, at.Column, "not YAML: %s", message)
}

// syntax reports a problem of the text rather than of a key.
func (r *report) syntax(line, column int, format string, args ...any) {
	r.problems = append(r.problems, Problem{
		File: r.file, Line: max(1, line), Column: max(1, column), Message: fmt.Sprintf(format, args...),
	})
}

// whole reports a problem of the file as a whole.
func (r *report) whole(format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Message: fmt.Sprintf(format, args...)})
}

// secret matches what must not be shown: nkey seeds of every kind, private keys and JWTs. Public
// keys of nkeys begin with other letters.
var secret = regexp.MustCompile(`\bS[A-Z][A-Z2-7]{48,}|-----BEGIN[^-]*(SEED|PRIVATE)|eyJ[A-Za-z0-9_-]{20,}`)

func redact(s string) string { return secret.ReplaceAllString(s, "[secret]") }

// quoted returns a text of the file as it may be shown.
func quoted(s string) string { return fmt.Sprintf("%q", clip(redact(s))) }

// describe names the kind of a node.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case ast.MapNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return "the truth value " + n.Token.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + clip(n.GetToken().Value)
	default:
		return "text"
	}
}
