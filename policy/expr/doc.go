// Package expr compiles the conditions that bindings hold in `when`: expressions of the Common
// Expression Language (CEL) over the claims of a token.
//
// An expression sees one variable, claims, and nothing else: no clock, no time zone, no network,
// and objects are gone through in the order of their keys, so that the same claims always give
// the same answer. What it costs is bounded twice: by its length and nesting when it is compiled,
// and by a limit on the steps of each evaluation.
package expr
