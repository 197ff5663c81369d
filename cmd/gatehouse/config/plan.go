package config

import (
	"regexp"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/seal"
)

// tierName matches the names that nats-server gives replica tiers.
var tierName = regexp.MustCompile(`^R[1-5]$`)

// plans returns what members of the accounts of each plan may be.
func (r *report) plans(f *File, roles map[string]*policy.Role) map[string]*policy.Plan {
	all := map[string]*policy.Plan{}
	for _, name := range sorted(f.Plans) {
		at, p := join("plans", name), f.Plans[name]
		r.check(at, name, checkName)
		if f.NATS.without() {
			r.problem(at, "needs an operator: without one accounts are defined in the servers' files")
		}
		plan := &policy.Plan{Name: name, Roles: map[string]*policy.Role{}, TTL: time.Duration(p.TTL)}
		for i, role := range p.Roles {
			here := index(join(at, "roles"), i)
			if role == account.OwnerRole && roles[role] == nil {
				continue // manages the account, and does not log in by it
			}
			r.refer(here, "role", role, sorted(roles))
			if roles[role] != nil && roles[role].Scoped != nil {
				r.problem(here, "%s has a scoped signing key, which is one account's: name a role with permissions of its own", role)
			}
			plan.Roles[role] = roles[role]
		}
		for _, tier := range sorted(p.Tiers) {
			if !tierName.MatchString(tier) {
				r.problem(join(join(at, "tiers"), tier), "is no replica tier: write R1 to R5")
			}
		}
		if r.given(join(at, "tiers")) && r.given(join(at, "jetstream")) {
			r.problem(join(at, "tiers"), "cannot stand beside jetstream: servers go by one or the other")
		}
		plan.Direct = r.terms(join(at, "direct"), p.Direct)
		all[name] = plan
	}
	return all
}

// terms returns the terms of a plan for direct users; nil when it permits none.
func (r *report) terms(at string, d Direct) *policy.Direct {
	if !r.given(at) {
		return nil
	}
	return &policy.Direct{TTL: time.Duration(d.TTL), Keys: d.Keys}
}

// signUp completes a binding that lets sign up for accounts.
func (r *report) signUp(at string, f *File, b *Binding, binding *policy.Binding) {
	grant := join(at, "grant")
	for i, plan := range b.Grant.SignUp {
		r.refer(index(join(grant, "sign_up"), i), "plan", plan, sorted(f.Plans))
	}
	binding.SignUp, binding.OnBehalf = slices.Clone(b.Grant.SignUp), b.Grant.OnBehalfOf
	if b.Grant.OnBehalfOf && (r.given(join(grant, "account")) || b.Grant.Lobby) {
		r.problem(join(grant, "on_behalf_of"), "takes a token for administration, which nobody logs in with: give it in a binding of its own")
	}
}

// Plans returns what accounts of sign-up may have, by the names of the plans.
func (c *Config) Plans() map[string]*account.Plan {
	all := make(map[string]*account.Plan, len(c.File.Plans))
	for name, p := range c.File.Plans {
		all[name] = &account.Plan{
			Name: name, Limits: p.limits(), Roles: slices.Clone(p.Roles), PerSubject: p.PerSubject, Approval: p.Approval, Pattern: p.Names,
		}
	}
	return all
}

func (p *Plan) limits() account.Limits {
	l := account.Limits{
		Connections: int64(p.Connections), LeafNodes: int64(p.LeafNodes), Subscriptions: int64(p.Subscriptions),
		Payload: int64(p.Payload), Data: int64(p.Data), Imports: int64(p.Imports), Exports: int64(p.Exports),
	}
	if js := p.JetStream.limits(); js.Memory != 0 || js.Disk != 0 {
		l.JetStream = &js
	}
	for tier, js := range p.Tiers {
		if l.Tiers == nil {
			l.Tiers = map[string]account.JetStream{}
		}
		l.Tiers[tier] = js.limits()
	}
	return l
}

func (j *PlanJetStream) limits() account.JetStream {
	return account.JetStream{Memory: int64(j.Memory), Disk: int64(j.Disk), Streams: int64(j.Streams), Consumers: int64(j.Consumers)}
}

// SealKey is a key that encrypts secrets in the store, kept in a file or given by a variable. It prints as its id.
type SealKey struct {
	path string
	text []byte
	key  *seal.Key
}

func (k *SealKey) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	if f == asVariable {
		if _, err := seal.ParseKey([]byte(text)); err == nil {
			k.text = []byte(text)
			return nil
		}
	}
	path, err := fileName(text)
	k.path = path
	return err
}

func (k *SealKey) load(l *loader, _ string, _ tags) (err error) {
	text := k.text
	if k.path != "" {
		k.path = l.path(k.path)
		if text, err = l.read(k.path, true); err != nil {
			return err
		}
	}
	k.key, err = seal.ParseKey(text)
	return err
}

// String returns the key's id.
func (k SealKey) String() string {
	if k.key == nil {
		return ""
	}
	return k.key.ID()
}

// GoString keeps the key out of %#v.
func (k SealKey) GoString() string { return k.String() }

// MarshalText returns the key's id.
func (k SealKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

var (
	_ scalar = (*SealKey)(nil)
	_ scalar = (*Quota)(nil)
)

// Seal returns what seals secrets in the store; nil when no key is configured.
func (c *Config) Seal() *seal.Ring {
	if c.File.Seal.Key.key == nil {
		return nil
	}
	var old []*seal.Key
	for _, k := range c.File.Seal.Old {
		if k.key != nil {
			old = append(old, k.key)
		}
	}
	return seal.NewRing(c.File.Seal.Key.key, old...)
}
