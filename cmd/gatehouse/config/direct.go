package config

import (
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// direct returns the terms for direct users; nil when the binding permits none.
func (r *report) direct(at string, b *Binding, binding *policy.Binding) *policy.Direct {
	grant := join(at, "grant")
	here := join(grant, "direct")
	if !r.given(here) {
		return nil
	}
	// A block of which every line is a comment must not permit anything.
	if !r.wrong[here] && !r.given(join(here, "ttl")) && !r.given(join(here, "keys")) {
		r.problem(here, "says neither ttl nor keys: give them, such as { ttl: 24h, keys: 3 }, or leave it out")
		return nil
	}
	types := binding.ConnectionTypes
	switch {
	case len(types) > 0 && !slices.ContainsFunc(types, func(t policy.ConnectionType) bool { return t != policy.MQTT }):
		r.problem(here, "nobody could use it: a direct user signs with its key, and MQTT clients, for which alone this binding is, cannot: name other connection_types, or leave it out")
	case binding.Grant.Role.Scoped != nil && len(types) > 0:
		r.problem(join(at, "connection_types"), "a direct user of a scoped signing key cannot be limited to types of connection by its binding: put them into the template's allowed_connection_types")
	case binding.Grant.Role.Scoped != nil && len(binding.Source) > 0:
		r.problem(join(at, "source"), "a direct user of a scoped signing key cannot be limited to addresses by its binding: put them into the template's src")
	}
	return &policy.Direct{TTL: time.Duration(b.Grant.Direct.TTL), Keys: b.Grant.Direct.Keys}
}

// maxDirectLife is how long a direct user may stay admitted, if nobody revokes it, without a warning.
const maxDirectLife = 24 * time.Hour

// lintDirect warns of direct users who are more, or for longer, than is seldom meant.
func (r *report) lintDirect(at string, b *policy.Binding, url string) {
	here := join(join(at, "grant"), "direct")
	if b.When == nil && !slices.ContainsFunc(b.Match, func(c policy.Condition) bool { return !always(c, url) }) {
		r.warn(here, "every identity of issuer %s may hold user JWTs that servers admit without asking Gatehouse: narrow the binding down with match", b.Issuer)
	}
	if b.Direct.TTL > maxDirectLife {
		r.warn(join(here, "ttl"), "whoever is taken out of the provider stays in for up to %s unless somebody revokes it here: a day or less is enough where gatehouse creds --watch renews", b.Direct.TTL)
	}
	if slices.Contains(b.ConnectionTypes, policy.LeafNode) {
		r.warn(here, "a direct user may then be a leaf node, which connects a whole account: keep the two apart in bindings of their own")
	}
}
