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

// ClaimPath names a claim: a top-level one, or one inside nested objects, whose names are
// joined by dots. A name that holds dots itself may stand in double quotes, as in
// resource_access."my.client".roles. Without quotes the longest top-level name that the path
// begins with is taken, so that kubernetes.io.namespace is namespace inside kubernetes.io, and
// https://example.com/roles one name. Make one with [ParseClaimPath].
type ClaimPath struct {
	raw   string
	parts []string // from the outermost in; never empty
	exact bool     // a part is quoted: each is one whole name
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
	p := ClaimPath{raw: s, exact: strings.Contains(s, `"`)}
	for rest, more := s, true; more; {
		var part string
		var err error
		if part, rest, more, err = cutPart(rest); err != nil {
			return ClaimPath{}, fmt.Errorf("%w: %q %w", ErrClaimPath, s, err)
		}
		p.parts = append(p.parts, part)
	}
	return p, nil
}

// cutPart returns the first part of a path without its quotes, and what follows its dot.
func cutPart(s string) (part, rest string, more bool, err error) {
	part, rest, more = strings.Cut(s, ".")
	if strings.HasPrefix(s, `"`) {
		var closed bool
		part, rest, closed = strings.Cut(s[1:], `"`)
		if !closed || rest != "" && rest[0] != '.' {
			return "", "", false, errQuote
		}
		rest, more = strings.CutPrefix(rest, ".")
	} else if strings.Contains(part, `"`) {
		return "", "", false, errQuote
	}
	if part == "" {
		return "", "", false, errors.New("has an empty part")
	}
	return part, rest, more, nil
}

var errQuote = errors.New("has a quote that does not enclose a whole part, as in a.\"b.c\".d")

// String returns the path as it was written.
func (p ClaimPath) String() string { return p.raw }

// Lookup returns the claim that the path names.
func (p ClaimPath) Lookup(claims map[string]any) (any, bool) {
	name, inner := p.outermost(claims)
	v, ok := claims[name]
	for _, part := range inner {
		var object map[string]any
		if object, ok = v.(map[string]any); !ok {
			return nil, false
		}
		if v, ok = object[part]; !ok {
			return nil, false
		}
	}
	return v, ok
}

// outermost returns the top-level name that the path begins with among the claims, and the
// names inside it.
func (p ClaimPath) outermost(claims map[string]any) (name string, inner []string) {
	if p.exact {
		return p.parts[0], p.parts[1:]
	}
	name = p.raw
	for n := len(p.parts) - 1; n > 0; n-- {
		if _, ok := claims[name]; ok {
			return name, p.parts[n+1:]
		}
		name = name[:len(name)-len(p.parts[n])-1]
	}
	return name, p.parts[1:]
}
