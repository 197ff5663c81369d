package expr

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// Error says why a text is not an expression that a binding may have.
type Error struct {
	Line    int // in the expression, from 1; 0 when it is of the expression as a whole
	Column  int // in characters, from 1; 0 like Line
	Message string
}

// Error returns the message, after its place when it has one.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

var undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'(?: \(did you mean '([^']*)'\?\))?`)

// problemOf returns the first of CEL's findings in words of our own, where we have some.
func problemOf(issues *cel.Issues) *Error {
	first := issues.Errors()[0]
	e := &Error{Line: first.Location.Line(), Column: first.Location.Column() + 1, Message: first.Message}
	if e.Line < 1 {
		e.Line, e.Column = 0, 0
	}
	message, syntax := strings.CutPrefix(first.Message, "Syntax error: ")
	name := undeclared.FindStringSubmatch(message)
	switch {
	case syntax:
		// CEL goes on with all the tokens that could stand there.
		message, _, _ = strings.Cut(message, " expecting ")
		switch {
		case strings.Contains(message, "'<EOF>'"):
			message = "it ends before it is complete"
		case strings.HasPrefix(message, "token recognition error at: '="):
			message = "= compares nothing: write =="
		}
		e.Message = "is not an expression: " + clip(message)
	case name != nil && name[2] != "":
		e.Message = fmt.Sprintf("there is no %q: did you mean %s?", clip(name[1]), name[2])
	case name != nil:
		e.Message = fmt.Sprintf("there is no %q: an expression sees the claims of the token, as claims.NAME, and CEL's own functions", clip(name[1]))
	case strings.Contains(message, "recursion"):
		e.Message = "is nested too deeply: write it with fewer brackets and operators in one another"
	case message == "invalid matches argument":
		e.Message = "is not a pattern (RE2 syntax) that matches takes"
	case strings.HasPrefix(message, "comprehension exceeds nesting limit"):
		e.Message = fmt.Sprintf("is too costly: exists, all, map and filter may be nested %d deep", MaxNesting)
	case strings.HasPrefix(message, "found no matching overload"):
		e.Message = "compares or combines what does not belong together: " + clip(message)
	default:
		e.Message = clip(message)
	}
	return e
}

// unavailable are functions of CEL's libraries that no expression may call, and why.
var unavailable = map[string]string{
	"replace":       "its result may be far longer than the claims: compare their parts instead",
	"join":          "its result may be far longer than the claims: compare the entries instead",
	"format":        "its result may be far longer than the claims: compare the values instead",
	"strings.quote": "conditions need no quotes around texts: compare the text itself",

	overloads.TimeGetFullYear: calendar, overloads.TimeGetMonth: calendar, overloads.TimeGetDayOfYear: calendar,
	overloads.TimeGetDayOfMonth: calendar, overloads.TimeGetDate: calendar, overloads.TimeGetDayOfWeek: calendar,
	overloads.TimeGetHours: calendar, overloads.TimeGetMinutes: calendar, overloads.TimeGetSeconds: calendar,
	overloads.TimeGetMilliseconds: calendar,
}

// Time zones are read from the host's files.
const calendar = "it depends on the host's time zones: compare the numbers of seconds that claims such as auth_time hold"

// maxExactDouble is the first double from which on integers are no longer apart.
const maxExactDouble = 1 << 53

// refused returns what the type check lets pass and a binding may not have; nil when there is nothing.
func refused(a *ast.AST, root ast.NavigableExpr) *Error {
	at := func(e ast.Expr, format string, args ...any) *Error {
		place := a.SourceInfo().GetStartLocation(e.ID())
		return &Error{Line: place.Line(), Column: place.Column() + 1, Message: fmt.Sprintf(format, args...)}
	}
	for _, e := range ast.MatchDescendants(root, ast.AllMatcher()) {
		switch e.Kind() {
		case ast.LiteralKind:
			if d, ok := e.AsLiteral().(types.Double); ok && math.Abs(float64(d)) >= maxExactDouble {
				return at(e, "would be compared rounded: write a whole number of this size without a dot and an exponent")
			}
		case ast.CallKind:
			name := e.AsCall().FunctionName()
			if why, ok := unavailable[name]; ok {
				return at(e, "%s is not available, since %s", name, why)
			}
			if pattern := e.AsCall().Args(); name == overloads.Matches && pattern[len(pattern)-1].Kind() != ast.LiteralKind {
				return at(e, "the pattern of matches must be written out: one from a claim would be chosen by whoever makes the token")
			}
		}
	}
	return nil
}
