// Command generate writes docs/configuration.md and docs/gatehouse.schema.json from the
// types of package config, their comments, and docs/gatehouse.example.yaml.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DOCS, in the folder of package config")
		os.Exit(2)
	}
	if err := generate(os.Args[1], "file.go"); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(docs, source string) error {
	files, err := render(docs, source)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(docs, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render returns the generated files by name.
func render(docs, source string) (map[string][]byte, error) {
	comments, err := readComments(source)
	if err != nil {
		return nil, err
	}
	example, err := os.ReadFile(filepath.Join(docs, "gatehouse.example.yaml"))
	if err != nil {
		return nil, err
	}
	fields := config.Fields()
	schema, err := schemaFile(fields, comments)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"configuration.md":      []byte(page(fields, comments, string(example))),
		"gatehouse.schema.json": schema,
	}, nil
}

// comments are the doc comments of fields by "Block.Name", and of blocks by "Block".
type comments map[string]string

func (c comments) of(f config.Field) string { return c[f.Block+"."+f.Name] }

func readComments(source string) (comments, error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	all := comments{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		block, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, f := range block.Fields.List {
			for _, name := range f.Names {
				all[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return false
	})
	return all, nil
}
