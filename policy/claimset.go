package policy

import (
	"slices"
	"strings"
)

// ClaimSet names claims: those that the bindings of an issuer read. Picked from a token, they
// are all that deciding anew needs. It is immutable once made.
type ClaimSet struct {
	whole bool // all claims
	root  claimNode
	paths []string // as they were written
}

// claimNode is a claim of a set, or an object on the way to some.
type claimNode struct {
	whole bool // the claim with all that is in it
	inner map[string]*claimNode
}

// alwaysRead are the claims that decisions read whatever the bindings say: those that bind a token to a
// key, and those that stand in the place of others, see [ClaimPath.leftOut].
var alwaysRead = append([]string{"_claim_names", "hasgroups"}, boundKeyClaims...)

// NewClaimSet returns the set of the claims that the bindings read: in match, in when, in names of
// accounts, and in the subjects of their roles. What every decision reads is among them.
func NewClaimSet(bindings []*Binding) *ClaimSet {
	s := &ClaimSet{}
	for _, name := range alwaysRead {
		s.add(ClaimPath{raw: name, parts: []string{name}, exact: true})
	}
	for _, b := range bindings {
		for _, c := range b.Match {
			s.add(c.Claim)
		}
		if b.When != nil {
			paths, whole := b.When.Reads()
			s.whole = s.whole || whole
			for _, path := range paths {
				s.add(path)
			}
		}
		if b.Create != nil {
			for _, path := range append(b.Create.Name.Claims(), b.Create.Role.claims()...) {
				s.add(path)
			}
		}
		if b.Grant.Role == nil {
			continue
		}
		for _, path := range b.Grant.Role.claims() {
			s.add(path)
		}
	}
	return s
}

// add puts a path into the set, with every top-level name that it may begin with: which of them
// it is depends on the token.
func (s *ClaimSet) add(p ClaimPath) {
	if !slices.Contains(s.paths, p.raw) {
		s.paths = append(s.paths, p.raw)
	}
	for outer := 1; outer <= len(p.parts); outer++ {
		n := s.root.child(strings.Join(p.parts[:outer], "."))
		for _, part := range p.parts[outer:] {
			n = n.child(part)
		}
		n.whole = true
		if p.exact {
			return
		}
	}
}

func (n *claimNode) child(name string) *claimNode {
	c, ok := n.inner[name]
	if !ok {
		c = &claimNode{}
		if n.inner == nil {
			n.inner = map[string]*claimNode{}
		}
		n.inner[name] = c
	}
	return c
}

// Beyond returns, for people, the paths of the set that are not in the other, sorted: what was picked
// by the other may lack them. A nil set has none.
func (s *ClaimSet) Beyond(other *ClaimSet) []string {
	if s == nil || other != nil && other.whole {
		return nil
	}
	if s.whole {
		return []string{"every claim"}
	}
	var missing []string
	for _, path := range s.paths {
		if other == nil || !slices.Contains(other.paths, path) {
			missing = append(missing, path)
		}
	}
	slices.Sort(missing)
	return missing
}

// Pick returns the claims that are in the set, nested as they were, so that whoever reads only
// claims of the set finds in the result what the token has. It shares values with claims; what
// stands in the place of an object becomes null. It is empty, never nil, when there are none.
func (s *ClaimSet) Pick(claims map[string]any) map[string]any {
	switch {
	case s == nil:
		return map[string]any{}
	case s.whole:
		return claims
	default:
		return s.root.pick(claims)
	}
}

func (n *claimNode) pick(claims map[string]any) map[string]any {
	picked := make(map[string]any, min(len(n.inner), len(claims)))
	for name, c := range n.inner {
		v, ok := claims[name]
		if !ok {
			continue
		}
		if !c.whole {
			// Without what is no object it would look as if nothing were there.
			if m, object := v.(map[string]any); object {
				v = c.pick(m)
			} else {
				v = nil
			}
		}
		picked[name] = v
	}
	return picked
}
