package openapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Comments are the comments of a package's types by their names, and of their fields by TYPE.FIELD.
type Comments map[string]string

// ReadComments reads those of the package in a folder.
func ReadComments(dir string) (Comments, error) {
	files, err := fs.Glob(os.DirFS(dir), "*.go")
	if err != nil {
		return nil, err
	}
	all := Comments{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				continue
			}
			for _, spec := range decl.Specs {
				all.take(spec.(*ast.TypeSpec), decl.Doc)
			}
		}
	}
	return all, nil
}

func (c Comments) take(t *ast.TypeSpec, doc *ast.CommentGroup) {
	c[t.Name.Name] = text(doc)
	s, ok := t.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			c[t.Name.Name+"."+name.Name] = text(f.Doc, f.Comment)
		}
	}
}

// link matches a reference to a Go name, which means nothing in a document of the wire.
var link = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

func text(groups ...*ast.CommentGroup) string {
	var parts []string
	for _, g := range groups {
		if t := strings.Join(strings.Fields(g.Text()), " "); t != "" {
			parts = append(parts, t)
		}
	}
	return link.ReplaceAllString(strings.Join(parts, "; "), "$1")
}

// about returns what is said of an operation's request, or where it has none of its answer, without the name of the type: the
// first sentence, and the rest.
func (c Comments) about(op Operation) (summary, rest string) {
	t := op.Request
	if t.Name() == "" {
		t = op.Response
	}
	said := strings.TrimPrefix(strings.TrimPrefix(c[t.Name()], t.Name()+" "), "is ")
	if said == "" {
		return op.Name, ""
	}
	said = strings.ToUpper(said[:1]) + said[1:]
	if i := strings.Index(said, ". "); i > 0 {
		return said[:i+1], said[i+2:]
	}
	return said, ""
}
