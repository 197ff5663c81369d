package config

import (
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// person is what grant.create.for says of accounts that belong to one identity each.
const person = "person"

// create returns the binding as one whose logins lead to accounts by claims; nil when what it refers to is not there.
func (r *report) create(at string, f *File, b *Binding, binding *policy.Binding, roles map[string]*policy.Role) *policy.Binding {
	grant := join(at, "grant")
	here := join(grant, "create")
	for _, key := range []string{"account", "role", "direct", "lobby", "admin", "on_behalf_of"} {
		if r.given(join(grant, key)) {
			r.problem(join(grant, key), "cannot stand beside create, which says what the accounts give: give it in a binding of its own")
		}
	}
	r.giveIfMissing(join(here, "plan"), "the name of a plan")
	r.giveIfMissing(join(here, "role"), "the name of one of the plan's roles")
	r.giveIfMissing(join(here, "name"), "the name of the accounts, such as team-{{claim.team}}")
	r.giveIfMissing(join(here, "for"), "person, where an account is its first identity's own, or team, for all who have the same claims")
	r.refer(join(here, "plan"), "plan", b.Grant.Create.Plan, sorted(f.Plans))
	name := r.accountName(join(here, "name"), b.Grant.Create)
	plan := f.Plans[b.Grant.Create.Plan]
	if plan == nil || b.Grant.Create.Role == "" {
		return nil
	}
	r.refer(join(here, "role"), "role", b.Grant.Create.Role, plan.Roles)
	role := roles[b.Grant.Create.Role]
	if role == nil {
		if b.Grant.Create.Role == account.OwnerRole {
			r.problem(join(here, "role"), "is no role of the configuration, and nobody logs in with it: name another one of the plan's")
		}
		return nil
	}
	if plan.Approval {
		r.problem(join(here, "plan"), "accounts of %s need an approval, and a login does not wait for one: name a plan without approval", b.Grant.Create.Plan)
	}
	r.fits(join(here, "name"), name, b.Grant.Create.Plan, f)
	binding.Create = &policy.Create{
		Plan: b.Grant.Create.Plan, Role: role, Name: name, Own: b.Grant.Create.For == person, PerMinute: b.Grant.Create.PerMinute, Max: b.Grant.Create.Max,
		Valid: func(name string) error { return account.CheckPlanName(name, plan.Names) },
	}
	return binding
}

// founding reports what is missing for logins to make accounts, once. The operator signing key may be in the store.
func (r *report) founding(f *File) {
	i := slices.IndexFunc(f.Bindings, func(b *Binding) bool {
		return b.Grant.Create != Create{PerMinute: b.Grant.Create.PerMinute, Max: b.Grant.Create.Max}
	})
	if i < 0 || f.NATS.without() {
		return
	}
	here := join(join(index("bindings", i), "grant"), "create")
	if !r.given("seal.key") && f.Seal.Key.key == nil {
		r.problem(here, "needs seal.key, with which the keys of new accounts are kept: gatehouse keys seal-key makes one")
	}
}

// accountName returns the template of the names of accounts.
func (r *report) accountName(at string, c Create) policy.NameTemplate {
	name, err := policy.ParseNameTemplate(c.Name)
	if err != nil {
		r.problem(at, "%s", err)
		return name
	}
	if c.Name == "" {
		return name // reported
	}
	// A harmless text in each place tells whether the fixed text around them can stand in a name.
	if err := account.CheckName(name.Fill("x")); err != nil {
		r.problem(at, "%s with x in its placeholders: %s", quoted(c.Name), err)
	}
	if c.For == person && name.Static() {
		r.problem(at, "is the same for everybody, and the account would be the first one's own: put a claim into it that tells people apart, such as {{claim.sub}}")
	}
	return name
}

// fits reports names of accounts of which none can be one of the plan, or that are of the configuration's.
func (r *report) fits(at string, name policy.NameTemplate, plan string, f *File) {
	pattern := f.Plans[plan].Names
	if !possible(name, pattern) {
		r.problem(at, "makes no name that accounts of plan %s may have: they look like %s", plan, pattern)
	}
	for _, other := range sorted(f.Accounts) {
		if name.Static() && account.Key(other) == account.Key(name.String()) {
			r.problem(at, "is that of account %s of the configuration: choose another one", other)
		}
	}
}

// possible reports whether a name may fit the pattern, as far as that is sure without knowing the claims.
func possible(name policy.NameTemplate, pattern string) bool {
	if name.Static() {
		return account.Fits(name.String(), pattern)
	}
	if pattern == "" {
		return true
	}
	given, _, _ := strings.Cut(account.Key(name.String()), "{{")
	wanted, _, _ := strings.Cut(account.Key(pattern), "*")
	return strings.HasPrefix(given, wanted) || strings.HasPrefix(wanted, given)
}

// sameAccounts reports bindings that lead to the same accounts and do not agree on what those are.
func (r *report) sameAccounts(bindings []*policy.Binding, places []int) {
	first := map[string]int{} // by issuer and name
	for i, b := range bindings {
		if b.Create == nil {
			continue
		}
		key := b.Issuer + "\x00" + b.Create.Name.String()
		other, twice := first[key]
		if !twice {
			first[key] = i
			continue
		}
		at, o := join(join(index("bindings", places[i]), "grant"), "create"), bindings[other].Create
		if o.Plan != b.Create.Plan {
			r.problem(join(at, "plan"), "is another one than in binding %s, which leads to the same accounts: name the same plan, or give them other names", bindings[other].Name)
		}
		if o.Own != b.Create.Own {
			r.problem(join(at, "for"), "is another one than in binding %s, which leads to the same accounts: say the same, or give them other names", bindings[other].Name)
		}
	}
}

// lintCreate warns of names that others can take before the first login.
func (r *report) lintCreate(at string, f *File, b *policy.Binding, bindings []*policy.Binding) {
	name := b.Create.Name.Fill("x")
	for _, other := range bindings {
		for _, plan := range other.SignUp {
			if p := f.Plans[plan]; p != nil && account.Fits(name, p.Names) {
				r.warn(join(join(join(at, "grant"), "create"), "name"), "whoever signs up for an account of plan %s may take such a name first, and then nobody gets in by this binding: give the plan names that these are not", plan)
				return
			}
		}
	}
}
