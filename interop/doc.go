// Package interop runs Gatehouse together with programs that others make: OIDC providers whose keys change while they
// run, and the clients that the README shows. Its tests run in make interop only, which prepares those programs.
package interop
