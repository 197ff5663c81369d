package expr

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// reader collects the claims that an expression reads.
type reader struct {
	paths []policy.ClaimPath
	whole bool
}

// visit collects what e reads; a chain such as claims.realm.roles is one read.
func (r *reader) visit(e ast.NavigableExpr) {
	if names, ok := chain(e); ok {
		r.add(names)
		return
	}
	if key, ok := optional(e); ok {
		r.add([]string{key})
		return
	}
	for _, child := range e.Children() {
		r.visit(child)
	}
}

// chain returns the names that lead from claims to what e stands for; false when e is no chain of
// constant names that begins at claims.
func chain(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		// A variable of exists or map may hide claims by having its name: then too much is reported.
		return nil, strings.TrimPrefix(e.AsIdent(), ".") == variable
	case ast.SelectKind:
		names, ok := chain(e.AsSelect().Operand())
		return append(names, e.AsSelect().FieldName()), ok
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index {
			return nil, false
		}
		key, constant := text(call.Args()[1])
		names, ok := chain(call.Args()[0])
		return append(names, key), ok && constant
	}
	return nil, false
}

// optional returns the name of the claim that e asks for, as claims.?NAME or claims[?"NAME"]. The
// names after it are not followed: whether there is an optional value depends on what is on the way.
func optional(e ast.Expr) (string, bool) {
	if e.Kind() != ast.CallKind {
		return "", false
	}
	switch call := e.AsCall(); call.FunctionName() {
	case operators.OptSelect, operators.OptIndex:
		names, ok := chain(call.Args()[0])
		key, constant := text(call.Args()[1])
		return key, ok && constant && len(names) == 0
	}
	return "", false
}

// text returns the text that a literal is.
func text(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// add notes the claim that the names lead to. Where no path can be written for it the longest one
// around it counts, and without any the claims as a whole.
func (r *reader) add(names []string) {
	written := make([]string, len(names))
	for i, name := range names {
		if written[i] = name; strings.Contains(name, ".") {
			written[i] = `"` + name + `"`
		}
	}
	for n := len(written); n > 0; n-- {
		path, err := policy.ParseClaimPath(strings.Join(written[:n], "."))
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(r.paths, func(p policy.ClaimPath) bool { return p.String() == path.String() }) {
			r.paths = append(r.paths, path)
		}
		return
	}
	r.whole = true
}
