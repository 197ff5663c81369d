package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Bounds of an expression.
const (
	// MaxSize is the longest expression in bytes.
	MaxSize = 2048
	// MaxNesting is how deep exists, all, map, filter and their like may stand in one another: two
	// compare each entry of a list with each of another.
	MaxNesting = 2
	// MaxCost is how much one evaluation may cost, in CEL's units: enough to go through a list of
	// 10,000 texts, and tens of milliseconds at most.
	MaxCost = 100_000
)

// variable is all that an expression can see.
const variable = "claims"

// Expression is a compiled condition on claims. It is immutable.
type Expression struct {
	source  string
	program cel.Program
	paths   []policy.ClaimPath
	whole   bool
}

var _ policy.Expression = (*Expression)(nil)

// environment is built once: it takes longer than compiling an expression.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewCustomEnv(
		cel.StdLib(), cel.OptionalTypes(), ext.Strings(),
		cel.Variable(variable, cel.MapType(cel.StringType, cel.DynType)),
		cel.CustomTypeAdapter(adapter{}),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxSize), cel.ParserErrorRecoveryLimit(0),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(MaxNesting)),
	)
})

// Compile returns the expression written as source, or an error of type [*Error] that says what is
// wrong where, and what to write.
func Compile(source string) (*Expression, error) {
	if len(source) > MaxSize {
		return nil, &Error{Message: fmt.Sprintf("has %d bytes, the most are %d: move what all share into match, or split the binding", len(source), MaxSize)}
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("environment of CEL: %w", err)
	}
	checked, issues := env.Compile(source)
	if issues.Err() != nil {
		return nil, problemOf(issues)
	}
	if out := checked.OutputType(); !out.IsEquivalentType(cel.BoolType) && !out.IsEquivalentType(cel.DynType) {
		return nil, &Error{Message: fmt.Sprintf("yields %s, not true or false: compare it with something", kind(out))}
	}
	root := ast.NavigateAST(checked.NativeRep())
	if problem := refused(checked.NativeRep(), root); problem != nil {
		return nil, problem
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostTracking(pricing{}), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, &Error{Message: err.Error()}
	}
	var r reader
	r.visit(root)
	return &Expression{source: source, program: program, paths: r.paths, whole: r.whole}, nil
}

// String returns the expression as it was written.
func (e *Expression) String() string { return e.source }

// Reads returns the paths of the claims that the expression reads, each once; whole says that it
// also reads claims whose names it does not spell out.
func (e *Expression) Reads() (paths []policy.ClaimPath, whole bool) { return e.paths, e.whole }

// Holds reports whether the claims, as JSON decodes with numbers as json.Number, meet the
// expression. An error says why there is no answer: a claim that is not there or of another
// kind, or an evaluation that would cost more than [MaxCost].
func (e *Expression) Holds(claims map[string]any) (bool, error) {
	if claims == nil {
		claims = map[string]any{}
	}
	v, _, err := e.program.Eval(map[string]any{variable: claims})
	if err != nil {
		return false, e.explain(err, claims)
	}
	holds, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("it yields %s, not true or false", kindOfValue(v))
	}
	return bool(holds), nil
}

// explain says why an evaluation failed, in the words of somebody who looks at a token. It names
// claims and never shows their values: what CEL says may quote them.
func (e *Expression) explain(err error, claims map[string]any) error {
	message, _, _ := strings.Cut(err.Error(), ":")
	switch {
	case strings.HasSuffix(err.Error(), "cost limit exceeded"):
		return fmt.Errorf("it would take over %d steps for these claims", MaxCost)
	case message == "no such key":
		if missing := e.missing(claims); len(missing) > 0 {
			return fmt.Errorf("not in the token: claim %s", strings.Join(missing, ", claim "))
		}
		return errors.New("it asks for the key of an object that is not there")
	case slices.Contains(arithmetic, message):
		return errors.New(message)
	default:
		return fmt.Errorf("a claim is not what it expects (%s)", strings.Join(e.kinds(claims), ", "))
	}
}

// arithmetic are failures that have nothing to do with the kinds of claims.
var arithmetic = []string{"division by zero", "modulus by zero", "integer overflow", "unsigned integer overflow", "index out of bounds"}

// missing returns the claims that the expression reads and the token lacks.
func (e *Expression) missing(claims map[string]any) []string {
	var names []string
	for _, path := range e.paths {
		if _, ok := path.Lookup(claims); !ok {
			names = append(names, path.String())
		}
	}
	return names
}

// kinds returns what kind of value each claim is that the expression reads.
func (e *Expression) kinds(claims map[string]any) []string {
	var list []string
	for _, path := range e.paths {
		if v, ok := path.Lookup(claims); ok {
			list = append(list, path.String()+" is "+kindOfValue(adapter{}.NativeToValue(v)))
		}
	}
	return list
}

// clip bounds a message about an expression.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// kind names a type in words.
func kind(t *cel.Type) string {
	switch t.Kind() {
	case types.IntKind, types.UintKind, types.DoubleKind:
		return "a number"
	case types.StringKind:
		return "a text"
	case types.ListKind:
		return "a list"
	case types.MapKind:
		return "an object"
	case types.NullTypeKind:
		return "null"
	case types.BoolKind:
		return "a truth value"
	default:
		return "a value of type " + t.String()
	}
}

func kindOfValue(v ref.Val) string {
	if t, ok := v.Type().(*cel.Type); ok {
		return kind(t)
	}
	return v.Type().TypeName()
}
