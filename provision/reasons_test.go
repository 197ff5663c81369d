package provision_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// constants returns the values, by name, of the text constants in a file that accept is true
// for: those are what the file declares, so that a new one cannot be forgotten here.
func constants(t testing.TB, file string, accept func(name string, typ ast.Expr) bool) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if !accept(name.Name, spec.Type) || i >= len(spec.Values) {
				continue
			}
			if value, ok := spec.Values[i].(*ast.BasicLit); ok && value.Kind == token.STRING {
				found[name.Name], err = strconv.Unquote(value.Value)
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		return true
	})
	return found
}

// loginReasons returns every reason that package policy declares, but for Allowed.
func loginReasons(t testing.TB) []policy.Reason {
	t.Helper()
	found := constants(t, "../policy/reason.go", func(_ string, typ ast.Expr) bool {
		ident, ok := typ.(*ast.Ident)
		return ok && ident.Name == "Reason"
	})
	if len(found) < 30 || found["Allowed"] != string(policy.Allowed) {
		t.Fatalf("policy/reason.go does not declare its reasons as it did: found %d", len(found))
	}
	var list []policy.Reason
	for _, code := range slices.Sorted(maps.Values(found)) {
		if code != string(policy.Allowed) {
			list = append(list, policy.Reason(code))
		}
	}
	return list
}

// operations returns every operation that package api declares.
func operations(t testing.TB) []string {
	t.Helper()
	found := constants(t, "../api/doc.go", func(name string, _ ast.Expr) bool {
		return len(name) > 2 && strings.HasPrefix(name, "Op")
	})
	if len(found) < 8 {
		t.Fatalf("api/doc.go does not declare its operations as it did: found %v", found)
	}
	return slices.Sorted(maps.Values(found))
}

func TestEveryReasonIsExplainedOnce(t *testing.T) {
	t.Parallel()
	explained := map[policy.Reason]api.Reason{}
	for _, r := range api.Reasons() {
		if _, twice := explained[policy.Reason(r.Code)]; twice {
			t.Errorf("%s is explained twice", r.Code)
		}
		explained[policy.Reason(r.Code)] = r
	}
	declared := loginReasons(t)
	for _, r := range declared {
		e, ok := explained[r]
		switch {
		case !ok:
			t.Errorf("policy declares %s, which api.Reasons does not explain", r)
			continue
		case e.Silent != r.Silent():
			t.Errorf("%s: api says silent %t, policy %t", r, e.Silent, r.Silent())
		}
		for _, text := range []string{e.Meaning, e.Remedy} {
			if !strings.HasSuffix(text, ".") || strings.TrimSpace(text) != text {
				t.Errorf("%s: %q is not a sentence", r, text)
			}
		}
		if got, ok := api.Explain(string(r)); !ok || got != e {
			t.Errorf("Explain(%s) = %v, %t", r, got, ok)
		}
		delete(explained, r)
	}
	for r := range explained {
		t.Errorf("api.Reasons explains %s, which policy does not declare", r)
	}
	if _, ok := api.Explain(string(policy.Allowed)); ok {
		t.Error("allowed is explained as a reason not to be")
	}
	if n := len(declared); len(slices.Compact(declared)) != n { // they are sorted
		t.Error("two constants of policy have the same code")
	}
}

func TestReasonsCannotBeChangedByCallers(t *testing.T) {
	t.Parallel()
	list := api.Reasons()
	want := list[0]
	list[0] = api.Reason{}
	if got := api.Reasons()[0]; got != want {
		t.Errorf("a caller changed the first reason to %v", got)
	}
}

// TestOperationsByMode: the documentation says of every operation whether it is there on servers
// with and without an operator.
func TestOperationsByMode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/protocols.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range operations(t) {
		if !strings.Contains(string(page), "\n| `"+op+"` | ") {
			t.Errorf("docs/protocols.md does not say in which mode %s is there", op)
		}
	}
}
