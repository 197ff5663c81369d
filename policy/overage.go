package policy

import "slices"

// overage returns the first binding of a list that an identity might have had, were it not for claims
// that the issuer left out of the token; nil when there is none. x is the list's index, or nil. Gatehouse never asks
// for such claims: a login does no network I/O, and the address to ask would come from a token.
func overage(list []*Binding, x *bindingIndex, claims map[string]any) *Binding {
	if claims["_claim_names"] == nil && claims["hasgroups"] == nil {
		return nil
	}
	if x != nil {
		list = x.candidates(nil, claims, true)
	}
	for _, b := range list {
		if b.lacksOnlyLeftOut(claims) {
			return b
		}
	}
	return nil
}

// lacksOnlyLeftOut reports whether all that keeps the binding from applying is claims that the
// issuer left out: those that conditions name, and those that its expression reads.
func (b *Binding) lacksOnlyLeftOut(claims map[string]any) bool {
	leftOut := false
	for _, c := range b.Match {
		if c.Match(claims) {
			continue
		}
		if !c.Claim.leftOut(claims) {
			return false
		}
		leftOut = true
	}
	if b.When == nil {
		return leftOut
	}
	if holds, err := b.When.Holds(claims); err == nil {
		return holds && leftOut
	}
	paths, _ := b.When.Reads()
	return slices.ContainsFunc(paths, func(p ClaimPath) bool { return p.leftOut(claims) })
}

// leftOut reports whether the token says that the issuer has the claim elsewhere: as a
// distributed one (OpenID Connect Core 1.0 section 5.6.2), which is how Entra ID answers for
// somebody in more than 200 groups, or by hasgroups, as it does where the token was to be short.
func (p ClaimPath) leftOut(claims map[string]any) bool {
	name, _ := p.outermost(claims)
	if _, there := claims[name]; there {
		return false
	}
	if names, ok := claims["_claim_names"].(map[string]any); ok && names[name] != nil {
		return true
	}
	return name == "groups" && claims["hasgroups"] == true
}
