package policy

import (
	"errors"
	"fmt"
	"strings"
)

// MaxClaimPath is the longest claim path in bytes that a rule may name.
const MaxClaimPath = 256

// ErrClaimPath says that a text is not a claim path.
var ErrClaimPath = errors.New("not a claim path")

// ClaimPath names a claim: a literal top-level name, or names of nested objects
// joined by dots. Make one with [ParseClaimPath].
type ClaimPath struct {
	raw   string
	parts []string
}

// ParseClaimPath returns the path named by s, of 1 to [MaxClaimPath] bytes with no
// empty part, or an error that wraps [ErrClaimPath].
func ParseClaimPath(s string) (ClaimPath, error) {
	switch {
	case s == "":
		return ClaimPath{}, fmt.Errorf("%w: it is empty", ErrClaimPath)
	case len(s) > MaxClaimPath:
		return ClaimPath{}, fmt.Errorf("%w: over %d bytes", ErrClaimPath, MaxClaimPath)
	case strings.ContainsAny(s, "{}\x00\r\n"):
		return ClaimPath{}, fmt.Errorf("%w: %q holds a brace or a control character", ErrClaimPath, s)
	}
	p := ClaimPath{raw: s}
	// A namespaced claim such as https://example.com/roles is one literal name.
	if strings.Contains(s, "://") {
		return p, nil
	}
	if parts := strings.Split(s, "."); len(parts) > 1 {
		for _, part := range parts {
			if part == "" {
				return ClaimPath{}, fmt.Errorf("%w: %q has an empty part", ErrClaimPath, s)
			}
		}
		p.parts = parts
	}
	return p, nil
}

// String returns the path as it was written.
func (p ClaimPath) String() string { return p.raw }

// Lookup returns the claim that the path names. A top-level claim of exactly that
// name wins; otherwise the path is followed through nested objects.
func (p ClaimPath) Lookup(claims map[string]any) (any, bool) {
	if v, ok := claims[p.raw]; ok {
		return v, true
	}
	if len(p.parts) == 0 {
		return nil, false
	}
	var v any = claims
	for _, part := range p.parts {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[part]; !ok {
			return nil, false
		}
	}
	return v, true
}
