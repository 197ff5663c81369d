// Package arch holds the test that keeps the module's packages apart: which may import
// which, and what none may be named. ARCHITECTURE.md gives the reasons.
package arch
