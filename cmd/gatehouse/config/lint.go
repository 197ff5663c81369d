package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// lint warns of what a valid configuration allows and is seldom meant. The rules are those of the file,
// the bindings in its order. It says only what is sure, so that a good policy has no warning.
func (r *report) lint(f *File, rules *policy.Rules, bindings []*policy.Binding, roles map[string]*policy.Role) {
	if len(f.Issuers) == 0 {
		r.warn("issuers", "there is none, so nobody can log in: add the OIDC provider whose tokens count")
	}
	if len(f.Bindings) == 0 {
		r.warn("bindings", "there is none, so every login is refused: add one that gives a role")
	}
	if !f.HTTP.Listen.Loopback() && !f.HTTP.TLS.Given() {
		r.warn("http.listen", "tokens would cross the network in the clear: give http.tls, or listen on loopback, with a proxy that speaks TLS in front")
	}
	r.lintReplicas(f)
	for _, name := range sorted(f.Roles) {
		r.lintRole(join("roles", name), f.Roles[name])
		r.lintDenies(join("roles", name), f.Roles[name], roles)
		r.lintEnds(join("roles", name), f.Roles[name], roles[name])
	}
	r.lintMacros(f)
	for i, b := range bindings {
		at := index("bindings", i)
		r.lintConditions(at, b, rules.Issuers)
		if b.Create != nil {
			r.lintCreate(at, f, b, bindings)
			continue
		}
		if b.Grant.Role == nil {
			r.lintAdmin(at, b, rules.Issuers[b.Issuer])
			continue
		}
		r.lintKey(at, f, b)
		r.lintTags(at, b)
		if b.Direct != nil {
			r.lintDirect(at, b, rules.Issuers[b.Issuer])
		}
		if b.Grant.Role.NeedsAccount() && !b.Grant.Account.InSubjects() {
			r.warn(join(join(at, "grant"), "account"), "role %s puts {{account}} into subjects, and %s is no single token of one, so that every login is refused: give the account another name",
				b.Grant.Role.Name, quoted(b.Grant.Account.Name))
		}
	}
	r.lintAdminAudiences(f, rules)
	r.lintCost(bindings)
	r.lintUnused(f, bindings)
	r.lintPairs(bindings)
}

// lintReplicas warns when the creds of the callout user show that several replicas could not tell each other anything.
func (r *report) lintReplicas(f *File) {
	if f.Store.Driver() == SQLite {
		return // there is one
	}
	user, missing := f.NATS.Callout.Creds.allowed, []string{}
	for _, way := range []struct {
		to string
		jwt.Permission
	}{{"publish", user.Pub}, {"subscribe", user.Sub}} {
		for _, subject := range []jwt.Subject{"gatehouse.>", "_INBOX.>"} {
			within := func(of string) bool { return subject.IsContainedIn(jwt.Subject(of)) }
			if len(way.Allow) > 0 && !slices.ContainsFunc(way.Allow, within) || slices.ContainsFunc(way.Deny, within) {
				missing = append(missing, way.to+" to "+string(subject))
			}
		}
	}
	if len(missing) > 0 {
		r.warn("nats.callout.creds", "the user may not %s: replicas then hear of revocations from the store alone, and a frozen one is not noticed; allow it, and put the new creds file in place",
			strings.Join(missing, ", nor "))
	}
}

// lintConditions warns of conditions that never hold, or always.
func (r *report) lintConditions(at string, b *policy.Binding, issuers map[string]string) {
	narrows := func(c policy.Condition) bool { return !always(c, issuers[b.Issuer]) }
	if b.Grant.Role != nil && b.When == nil && !slices.ContainsFunc(b.Match, narrows) && everywhere(b.Source) {
		r.warn(at, "every identity of issuer %s gets it: narrow it down with match unless that is meant", b.Issuer)
	}
	for _, c := range b.Match {
		if is := never(c, issuers[b.Issuer]); is != "" {
			r.warn(join(join(at, "match"), c.Claim.String()), "in tokens of issuer %s it is always %s, so that the binding applies to nobody: correct the value, or remove the binding", b.Issuer, is)
		}
		for _, v := range c.Values {
			if v.Text != nil && strings.Contains(v.Text.String(), "{{") {
				r.warn(join(join(at, "match"), c.Claim.String()), "%s is compared as it is written: placeholders are for the subjects of roles; compare claims with each other in when", v)
			}
		}
	}
	if b.When != nil {
		r.lintWhen(join(at, "when"), b.When)
	}
	for i, inner := range b.Source {
		for j, outer := range b.Source {
			if i != j && policy.Holds(outer, inner) && (outer != inner || j < i) {
				r.warn(index(join(at, "source"), i), "adds nothing to %s: remove one of them", outer)
				break
			}
		}
		if unreachable(inner) {
			r.warn(index(join(at, "source"), i), "no client has such an address: remove it, or correct it")
		}
	}
}

// everywhere reports whether the addresses are all that there are; none stand for all of them.
func everywhere(source []netip.Prefix) bool {
	all := func(a netip.Addr) bool { return slices.Contains(source, netip.PrefixFrom(a, 0)) }
	return len(source) == 0 || all(netip.IPv4Unspecified()) && all(netip.IPv6Unspecified())
}

// lintTags warns of an account's name in a tag that refuses every login for its capital letters.
func (r *report) lintTags(at string, b *policy.Binding) {
	if name := b.Grant.Account.Name; b.Grant.Role.Scoped != nil && b.Grant.Role.NeedsAccount() && strings.ToLower(name) != name {
		r.warn(join(join(at, "grant"), "role"), "%s puts {{account}} into a tag, and nats-server folds the capital letters of %s, so that every login is refused: write it out in the tag in small letters",
			b.Grant.Role.Name, quoted(name))
	}
}

// lintKey warns of a key that those whom the binding is for cannot prove.
func (r *report) lintKey(at string, f *File, b *policy.Binding) {
	if b.RequireKey && slices.ContainsFunc(f.Issuers, func(is *Issuer) bool { return is.Name == b.Issuer && is.Login.ClientID != "" && !is.Login.BindKey }) {
		r.warn(join(at, "require_key"), "gatehouse login gets tokens of issuer %s that are not bound to a key, so it gives them nothing: set login.bind_key of the issuer", b.Issuer)
	}
}

// unreachable reports whether no connection can come from the network: multicast groups and the
// unspecified address open none.
func unreachable(n netip.Prefix) bool {
	return n.Addr().IsMulticast() && n.Bits() >= 4 || n.Addr().IsUnspecified() && n.IsSingleIP()
}

func (r *report) lintWhen(at string, when policy.Expression) {
	if paths, whole := when.Reads(); len(paths) > 0 || whole {
		return
	}
	if holds, err := when.Holds(nil); holds && err == nil {
		r.warn(at, "is true whatever the claims are: leave it out, or ask for a claim")
	} else {
		r.warn(at, "is never true, whatever the claims are, so that the binding applies to nobody: ask for a claim, or remove the binding")
	}
}

// maxUnmatched is how many expressions each login of an issuer may have to go through before it is
// worth a warning: with 1,000 groups in the token each takes about a millisecond, and many times that at worst.
const maxUnmatched = 100

// lintCost warns of so many conditions that every login has to evaluate that somebody in many groups
// holds up the others.
func (r *report) lintCost(bindings []*policy.Binding) {
	unmatched := map[string]int{} // by issuer
	for _, b := range bindings {
		if b.Grant.Role != nil && b.When != nil && len(b.Match) == 0 {
			unmatched[b.Issuer]++
		}
	}
	for _, issuer := range sorted(unmatched) {
		if n := unmatched[issuer]; n > maxUnmatched {
			r.warn("bindings", "%d of issuer %s have when and no match, so that every login goes through all of these expressions, a second and more for somebody in many groups: narrow them down with match, which is asked first", n, issuer)
		}
	}
}

// lintUnused warns of what no binding leads to. A policy without bindings has only begun.
func (r *report) lintUnused(f *File, bindings []*policy.Binding) {
	if len(bindings) == 0 {
		return
	}
	used := map[string]bool{}
	for _, b := range bindings {
		used["issuer "+b.Issuer] = true
		if b.Grant.Role != nil {
			used["account "+b.Grant.Account.Name], used["role "+b.Grant.Role.Name] = true, true
		}
	}
	for _, plan := range f.Plans {
		for _, role := range plan.Roles {
			used["role "+role] = true
		}
	}
	for i, issuer := range f.Issuers {
		if !used["issuer "+issuer.Name] {
			r.warn(index("issuers", i), "no binding is for it, so that its tokens are all refused: add one, or remove the issuer")
		}
	}
	for _, name := range sorted(f.Accounts) {
		if !used["account "+name] {
			r.warn(join("accounts", name), "no binding leads there: add one, or remove the account")
		}
	}
	for _, name := range sorted(f.Roles) {
		if !used["role "+name] {
			r.warn(join("roles", name), "no binding gives it: add one, or remove the role")
		}
	}
}

// maxCompared is how many bindings of one issuer are compared with each other: more would hold up
// the start for seconds.
const maxCompared = 2000

// lintPairs warns of bindings that say nothing beside another, and of those that make accounts ambiguous.
// The order of bindings never matters: of two that are alike the later one is named.
func (r *report) lintPairs(bindings []*policy.Binding) {
	of := map[string][]int{} // by issuer
	for i, b := range bindings {
		if b.Grant.Role != nil {
			of[b.Issuer] = append(of[b.Issuer], i)
		}
	}
	for _, issuer := range sorted(of) {
		if n := len(of[issuer]); n > maxCompared {
			r.warn("bindings", "the %d of issuer %s were not compared with each other, the most are %d: match several groups in one binding", n, issuer, maxCompared)
			continue
		}
		for _, i := range of[issuer] {
			r.lintPair(i, of[issuer], bindings)
		}
	}
}

// lintPair warns of binding i beside others of its issuer, once for each kind of trouble.
func (r *report) lintPair(i int, others []int, bindings []*policy.Binding) {
	b := bindings[i]
	first := func(related func(b, other *policy.Binding) bool) *policy.Binding {
		for _, j := range others {
			if other := bindings[j]; j != i && related(b, other) && (j < i || !related(other, b)) {
				return other
			}
		}
		return nil
	}
	if other := first((*policy.Binding).ShadowedBy); other != nil {
		r.warn(index("bindings", i), "changes nothing: whoever it applies to gets all of it from %s, for no longer; remove it", other.Name)
	}
	if other := first(opened); other != nil {
		r.warn(index("bindings", i), "whoever it applies to also has role %s by %s, and hears more by the two than by each: one may subscribe to a subject that ends in *, the other to something below it, so that not all the rest there can be denied. Write the tokens out in the place of *",
			other.Grant.Role.Name, other.Name)
	}
	if other := first(ambiguous); other != nil {
		r.warn(index("bindings", i), "whoever it applies to also gets account %s from %s, so that a login without account:NAME is refused as ambiguous: keep the two apart, or have clients name the account",
			other.Grant.Account.Name, other.Name)
	}
}

// opened reports whether whoever the binding applies to hears more by both roles than by each alone,
// for what [policy.Role.OpensBelow] says.
func opened(b, other *policy.Binding) bool {
	mine, theirs := b.Grant.Role, other.Grant.Role
	if mine == theirs || b.Grant.Account != other.Grant.Account || !b.Within(other) {
		return false
	}
	both := &policy.Role{Subscribe: policy.PermissionRules{
		Allow: slices.Concat(mine.Subscribe.Allow, theirs.Subscribe.Allow),
		Deny:  slices.Concat(mine.Subscribe.Deny, theirs.Subscribe.Deny),
	}}
	opens := func(role *policy.Role, end policy.Template) bool {
		_, open := role.OpensBelow(end)
		return open
	}
	more := func(role *policy.Role) bool {
		return slices.ContainsFunc(role.Subscribe.Allow, func(end policy.Template) bool { return opens(both, end) && !opens(role, end) })
	}
	return more(mine) || more(theirs)
}

func ambiguous(b, other *policy.Binding) bool {
	return b.Grant.Account != other.Grant.Account && b.Within(other)
}

// always reports whether every token of an issuer meets the condition: each has iss and sub.
func always(c policy.Condition, url string) bool {
	switch c.Claim.String() {
	case "iss":
		return c.Match(map[string]any{"iss": url})
	case "sub":
		return slices.ContainsFunc(c.Values, func(v policy.Value) bool { return v.Text != nil && v.Text.String() == "*" })
	}
	return false
}

// never returns what a claim is in every token of an issuer when that meets no value of the condition;
// empty when it may meet one. Package policy/oidc holds tokens to these.
func never(c policy.Condition, url string) string {
	has := func(kind func(policy.Value) bool) bool { return slices.ContainsFunc(c.Values, kind) }
	switch c.Claim.String() {
	case "iss":
		if !c.Match(map[string]any{"iss": url}) {
			return quoted(url)
		}
	case "sub", "jti", "sid":
		if !has(func(v policy.Value) bool { return v.Text != nil }) {
			return "text, and a value without quotes is none"
		}
	case "exp", "iat", "nbf":
		if !has(func(v policy.Value) bool { return v.Number != nil }) {
			return "a number, and a value in quotes is none"
		}
	}
	return ""
}
