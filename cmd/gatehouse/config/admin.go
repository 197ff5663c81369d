package config

import (
	"slices"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// admin returns the binding with the rights of administration that it gives, nil without any. What it cannot
// have beside them is reported.
func (r *report) admin(at string, f *File, b *Binding, binding *policy.Binding) *policy.Binding {
	grant := join(at, "grant")
	for _, key := range []string{"account", "role", "lobby", "direct"} {
		if r.given(join(grant, key)) {
			r.problem(join(grant, key), "cannot stand beside admin: give it in a binding of its own (admins get into the lobby without it)")
		}
	}
	if r.given(join(at, "connection_types")) {
		r.problem(join(at, "connection_types"), "says nothing of calls, which are no connections: leave it out beside grant.admin")
	}
	if b.RequireKey {
		r.problem(join(at, "require_key"), "nobody can meet it: a call cannot prove that it holds the key of its token; leave it out beside grant.admin")
	}
	i := slices.IndexFunc(f.Issuers, func(is *Issuer) bool { return is.Name == b.Issuer })
	if i >= 0 && !r.given(join(index("issuers", i), "admin_audiences")) {
		key := "admin"
		if !r.given(join(grant, key)) {
			key = "on_behalf_of"
		}
		r.problem(join(grant, key), "issuer %s has no admin_audiences, so that none of its tokens is for administration: say there what those carry in aud", b.Issuer)
	}
	if len(b.Grant.SignUp) > 0 && !b.Grant.OnBehalfOf {
		r.problem(join(grant, "sign_up"), "is for tokens that log in: give it in a binding of its own, or beside on_behalf_of to a portal's backend")
	}
	for _, right := range b.Grant.Admin {
		binding.Rights = append(binding.Rights, policy.Right(right))
	}
	if len(binding.Rights) == 0 && !binding.OnBehalf {
		return nil // reported when it was decoded
	}
	return binding
}

// giveIfMissing reports a key that is not there.
func (r *report) giveIfMissing(path, what string) {
	if !r.given(path) && !r.wrong[path] {
		r.problem(path, "is missing: give %s", what)
	}
}

// lintAdmin warns of rights that everybody has, and of backends that are admins of accounts when they forget whom they act for.
func (r *report) lintAdmin(at string, b *policy.Binding, url string) {
	if (len(b.Rights) > 0 || b.OnBehalf) && b.When == nil && !slices.ContainsFunc(b.Match, func(c policy.Condition) bool { return !always(c, url) }) {
		r.warn(at, "whoever gets a token of issuer %s for administration is an admin: narrow it down with match", b.Issuer)
	}
	if b.OnBehalf && slices.Contains(b.Rights, policy.RightAccounts) {
		r.warn(join(join(at, "grant"), "on_behalf_of"), "a call of the backend that forgets the header %s is an admin's, of all accounts: give the right accounts to another identity", api.OnBehalfHeader)
	}
}

// lintAdminAudiences warns of tokens for administration that no binding gives rights.
func (r *report) lintAdminAudiences(f *File, rules *policy.Rules) {
	for i, is := range f.Issuers {
		if len(is.AdminAudiences) > 0 && len(rules.Admins[is.Name]) == 0 {
			r.warn(join(index("issuers", i), "admin_audiences"), "no binding gives rights to identities of %s: add one with grant.admin, or remove them", is.Name)
		}
	}
}

// adminLogin checks how gatehouse login --admin gets a token.
func (r *report) adminLogin(at string, is *Issuer) {
	path := join(join(at, "login"), "admin_client_id")
	switch id := is.Login.AdminClientID; {
	case id == "":
	case id == is.Login.ClientID:
		r.problem(path, "is the client_id, whose tokens are for logins: give gatehouse login --admin a client of its own")
	case !r.given(join(at, "admin_audiences")):
		r.problem(path, "is of no use without admin_audiences: say there what the client's tokens carry in aud, such as %s", quoted(id))
	}
}
