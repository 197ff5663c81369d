package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// The comparisons here serve the lint of a policy: each is sure of what it says, and says no where
// it cannot be sure.

// Within reports whether the binding applies to no login that other does not apply to as well.
func (b *Binding) Within(other *Binding) bool {
	return b.Issuer == other.Issuer &&
		all(other.Match, func(c Condition) bool {
			return slices.ContainsFunc(b.Match, func(own Condition) bool { return own.within(c) })
		}) &&
		(other.When == nil || b.When != nil && b.When.String() == other.When.String()) &&
		(len(other.Source) == 0 || len(b.Source) > 0 && all(b.Source, func(p netip.Prefix) bool {
			return slices.ContainsFunc(other.Source, func(o netip.Prefix) bool { return Holds(o, p) })
		})) &&
		all(ConnectionTypes(), func(t ConnectionType) bool { return !b.Accepts(t) || other.Accepts(t) }) &&
		(b.RequireKey || !other.RequireKey) &&
		reflect.DeepEqual(b.otherConditions(), other.otherConditions())
}

// otherConditions returns what a binding asks for besides what Within compares, so that a condition
// that it does not know keeps two bindings apart.
func (b *Binding) otherConditions() Binding {
	rest := *b
	rest.Name, rest.Issuer, rest.Match, rest.When, rest.Source, rest.ConnectionTypes = "", "", nil, nil, nil, nil
	rest.RequireKey, rest.Grant, rest.Direct, rest.TTL = false, Grant{}, nil, 0
	return rest
}

// ShadowedBy reports whether the binding gives nobody more or less beside other: whoever it applies to
// has all that it gives from other, for no longer, with nothing denied and nothing asked for on top.
func (b *Binding) ShadowedBy(other *Binding) bool {
	return b.Grant.Account == other.Grant.Account && b.TTL >= other.TTL && b.Within(other) &&
		// The credential is limited to connection types when one of its bindings is.
		(len(b.ConnectionTypes) == 0 || len(other.ConnectionTypes) > 0) &&
		b.Grant.Role.within(other.Grant.Role) && b.asksNoMoreOfDirect(other)
}

// asksNoMoreOfDirect reports whether the binding limits no direct user more than other does, which
// applies as well: the stricter terms count, and what all bindings accept.
func (b *Binding) asksNoMoreOfDirect(other *Binding) bool {
	if other.Direct == nil || b.Direct == nil {
		return other.Direct == nil // there is none, with or without b
	}
	return b.Direct.TTL >= other.Direct.TTL && b.Direct.Keys >= other.Direct.Keys &&
		(len(b.Source) == 0 || reflect.DeepEqual(b.Source, other.Source)) &&
		all(ConnectionTypes(), func(t ConnectionType) bool { return b.Accepts(t) == other.Accepts(t) })
}

// within reports whether the role adds nothing to other, neither permissions nor reasons to be refused.
func (r *Role) within(other *Role) bool {
	return r == other || reflect.DeepEqual(r.otherParts(), other.otherParts()) &&
		r.Publish.within(other.Publish) && r.Subscribe.within(other.Subscribe)
}

// otherParts returns what a role says besides its subjects.
func (r *Role) otherParts() Role {
	rest := *r
	rest.Name, rest.Publish, rest.Subscribe = "", PermissionRules{}, PermissionRules{}
	return rest
}

func (p PermissionRules) within(other PermissionRules) bool {
	// A placeholder that only one of them has can refuse the login, a queue group narrows plain
	// subscriptions, and below a * at the end more is denied: such subjects count only where both have them.
	covered := func(list []Template) func(Template) bool {
		return func(t Template) bool {
			return slices.ContainsFunc(list, func(o Template) bool {
				return o.raw == t.raw || t.Static() && t.queue == "" && !strings.HasSuffix(t.raw, "*") && o.Covers(t)
			})
		}
	}
	return all(p.Allow, covered(other.Allow)) && all(p.Deny, covered(other.Deny))
}

// within reports whether claims that meet the condition meet other too.
func (c Condition) within(other Condition) bool {
	return c.Claim.String() == other.Claim.String() && all(c.Values, func(v Value) bool {
		return slices.ContainsFunc(other.Values, func(o Value) bool { return o.covers(v) })
	})
}

func (v Value) covers(other Value) bool {
	switch {
	case v.Text != nil && other.Text != nil:
		return v.Text.Covers(*other.Text)
	case v.Bool != nil && other.Bool != nil:
		return *v.Bool == *other.Bool
	case v.Number != nil && other.Number != nil:
		return v.Number.Cmp(other.Number) == 0
	default:
		return false
	}
}

// Covers reports whether the pattern matches every text that other matches.
func (g Glob) Covers(other Glob) bool {
	// What takes the place of a star in no text that g spells out can only be matched by g's own stars.
	const anything = "\xff"
	return !strings.Contains(strings.Join(g.parts, ""), anything) && g.Match(strings.Join(other.parts, anything))
}

// Holds reports whether every address of inner is one of outer.
func Holds(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// Covers reports whether the subjects of t include those of other, whatever stands in their
// placeholders, and its queue groups those of other.
func (t Template) Covers(other Template) bool {
	pattern, subject := t.distinctTokens(), other.distinctTokens()
	return (t.queue == "" || t.queue == other.queue) && matchTokens(pattern, subject) &&
		(subject[len(subject)-1] != ">" || pattern[len(pattern)-1] == ">")
}

// open begins the token that stands for a placeholder: no literal token holds it.
const open = "{{"

// distinctTokens returns the tokens of the subject; one with a placeholder is like no literal one,
// and like that of another subject only where both have the same.
func (t Template) distinctTokens() []string {
	return strings.Split(t.join(func(s segment) string {
		return open + strings.ReplaceAll(s.path.String(), ".", "\x00") + string('0'+rune(s.kind))
	}), ".")
}

// NeedsAccount reports whether the role puts the account's name into subjects or tags.
func (r *Role) NeedsAccount() bool {
	for _, list := range r.templates() {
		for _, t := range list {
			if slices.ContainsFunc(t.segments, func(s segment) bool { return s.kind == placeAccount }) {
				return true
			}
		}
	}
	return false
}

// InSubjects reports whether the account's name can stand in a subject.
func (a *Account) InSubjects() bool {
	_, refusal := safeToken("account name", a.Name)
	return refusal == nil
}

func all[T any](list []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(list, func(v T) bool { return !holds(v) })
}
