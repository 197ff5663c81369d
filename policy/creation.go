package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Create is what a binding says of accounts that logins lead to by their claims, and that the first login makes.
type Create struct {
	Plan string // name of its plan
	Role *Role  // that it gives, one of the plan's
	Name NameTemplate
	// Own says that an account is the identity's own that makes it: nobody else is let in by the binding.
	Own bool
	// PerMinute is how many accounts may be made by the binding in a minute, and Max how many there may be by it.
	PerMinute, Max int
	// Valid says what keeps a name from being one of an account of the plan; nil when nothing does.
	Valid func(name string) error
}

// Origin is what an account was made from by a first login: the binding's name for accounts, filled in for somebody. Only
// whoever brings exactly the same is led there, however alike two names may look. It is comparable.
type Origin struct {
	Issuer   string `json:"issuer"`            // exact iss
	Template string `json:"template"`          // as [NameTemplate.String] writes it
	Subject  string `json:"subject,omitempty"` // whose own account it is; empty: of all who have the claims
	Claims   string `json:"claims,omitempty"`  // the values in the name, in its order, as a JSON list
}

// Creation is an account that a login leads to and that is not there yet, or not on every server.
type Creation struct {
	Name    string
	Plan    string
	Role    string // of whose own it is
	Own     bool   // the identity becomes its owner
	Begun   bool   // it is being made
	Origin  Origin
	Binding string
	// PerMinute is how many accounts may be made by the binding in a minute, and Max how many there may be by it.
	PerMinute, Max int

	account *Account
}

// lead is where a binding leads an identity to: the account of that name and origin.
type lead struct {
	binding *Binding
	name    string
	origin  Origin
}

// leads returns where the bindings with [Create] lead the identity on this connection, or why nowhere. A client that names an
// account is led to that or nowhere; names of the configuration's accounts and the lobby are never meant.
func (s *Snapshot) leads(id *Identity, bound bool, conn Connection, trace *Trace) ([]lead, *Refusal) {
	list := s.Rules.Creates[id.Issuer]
	if len(list) == 0 || conn.Account == LobbyName || s.Rules.Accounts[conn.Account] != nil {
		return nil, nil
	}
	bindings, r := applicable(s.Rules, list, id, bound, conn, trace)
	var all []lead
	for _, b := range bindings {
		l, wrong := b.leads(id)
		switch {
		case wrong != nil:
			r = wrong
			trace.amend(b, false, wrong.Detail)
		case conn.Account != "" && conn.Account != l.name:
			r = Refuse(AccountNotGranted, "the client named account %q, and binding %s leads to %s", clip(conn.Account), b.Name, l.name)
			trace.amend(b, false, r.Detail)
		default:
			all = append(all, l)
		}
	}
	return all, r
}

// Led is where claims lead: the account of that name that was made from that.
type Led struct {
	Name   string
	Origin Origin
}

// LedBy returns where bindings with [Create] lead the identity when it calls from source, whether or not there is such an account.
// One that is an identity's own is none of these: who has it is a member.
func LedBy(s *Snapshot, id *Identity, source netip.Addr) []Led {
	leads, _ := s.leads(id, false, Connection{Source: source, Type: Standard}, nil)
	var all []Led
	for _, l := range leads {
		if !l.binding.Create.Own && !s.configured(l.name) {
			all = append(all, Led{l.name, l.origin})
		}
	}
	return all
}

// leads returns where the binding leads the identity, or why its claims make no name.
func (b *Binding) leads(id *Identity) (lead, *Refusal) {
	name, values, r := b.Create.Name.render(id)
	if r == nil && b.Create.Valid != nil {
		if err := b.Create.Valid(name); err != nil {
			r = Refuse(ClaimUnsafe, "account name %q: %v", clip(name), err)
		}
	}
	if r != nil {
		r.Detail = "binding " + b.Name + ": " + r.Detail
		return lead{}, r
	}
	l := lead{binding: b, name: name, origin: Origin{Issuer: id.IssuerURL, Template: b.Create.Name.String()}}
	if b.Create.Own {
		l.origin.Subject = id.Subject
		return l, nil
	}
	claims, err := json.Marshal(values)
	if err != nil {
		return lead{}, Refuse(ClaimUnsafe, "binding %s: the claims cannot be kept: %v", b.Name, err)
	}
	l.origin.Claims = string(claims)
	return l, nil
}

// follow returns what the leads give the identity, as bindings, and the account that has to be made for that, nil when all
// are there; or why they give nothing. It does not ask whether the accounts are open.
func (s *Snapshot) follow(leads []lead, id *Identity, now time.Time, trace *Trace) ([]*Binding, *Creation, *Refusal) {
	var grants []*Binding
	var create *Creation
	var refusal *Refusal
	for _, l := range leads {
		gives, c, r := s.arrive(l, create, id, now, trace)
		if r != nil {
			refusal = r
			trace.amend(l.binding, false, r.Detail)
			if r.Reason == AccountAmbiguous {
				return nil, nil, r // the order of bindings does not matter
			}
			continue
		}
		if c != nil {
			create = c
		}
		for _, b := range gives {
			if !slices.ContainsFunc(grants, func(other *Binding) bool { return other.Name == b.Name }) {
				grants = append(grants, b)
			}
		}
	}
	if len(grants) == 0 {
		return nil, nil, refusal
	}
	return grants, create, nil
}

// arrive is [Snapshot.follow] for one of them; create is what another already leads to.
func (s *Snapshot) arrive(l lead, create *Creation, id *Identity, now time.Time, trace *Trace) ([]*Binding, *Creation, *Refusal) {
	if s.configured(l.name) {
		return nil, nil, Refuse(AccountForeign, "binding %s leads to account %s, a name that the configuration gives to an account of its own", l.binding.Name, l.name)
	}
	e := s.Accounts.Like(l.name)
	if e == nil {
		return s.unmade(l, create, trace)
	}
	if e.Account.Name != l.name || e.Origin == nil || *e.Origin != l.origin {
		return nil, nil, Refuse(AccountForeign, "account %s was not made by binding %s for what this token says: %s", e.Account.Name, l.binding.Name, e.made())
	}
	grants := e.memberships(s.Rules.Plans, id, now, trace)
	if !l.binding.Create.Own {
		b, r := l.binding.into(&e.Account, s.Rules.Plans[e.Plan])
		if r != nil {
			return nil, nil, r
		}
		grants = append(grants, b)
	}
	if len(grants) == 0 {
		return nil, nil, Refuse(AccountNotGranted, "account %s was made for the identity, and it is no member any more", e.Account.Name)
	}
	trace.amend(l.binding, true, "leads to account "+l.name)
	if !e.Coming {
		return grants, nil, nil
	}
	c := l.creation(&e.Account)
	c.Begun = true
	return grants, c, nil
}

// unmade returns what the lead gives in an account that is not there yet.
func (s *Snapshot) unmade(l lead, create *Creation, trace *Trace) ([]*Binding, *Creation, *Refusal) {
	switch {
	case create == nil || create.Name != l.name:
		create = l.creation(&Account{Name: l.name})
	case create.Origin != l.origin:
		return nil, nil, Refuse(AccountAmbiguous, "bindings %s and %s make the same name %s of other claims: which of them it is for cannot be known", create.Binding, l.binding.Name, l.name)
	}
	b, r := l.binding.into(create.account, s.Rules.Plans[l.binding.Create.Plan])
	if r != nil {
		return nil, nil, r
	}
	trace.amend(l.binding, true, "leads to account "+l.name+", which is not there yet: the login makes it under plan "+create.Plan)
	return []*Binding{b}, create, nil
}

func (l lead) creation(account *Account) *Creation {
	c := l.binding.Create
	return &Creation{
		Name: l.name, Plan: c.Plan, Role: c.Role.Name, Own: c.Own, Origin: l.origin, Binding: l.binding.Name, PerMinute: c.PerMinute, Max: c.Max, account: account,
	}
}

// into returns the binding as one that gives its role in the account, on the terms of the plan.
func (b *Binding) into(account *Account, plan *Plan) (*Binding, *Refusal) {
	if plan == nil {
		return nil, Refuse(AccountNotGranted, "the plan of account %s is not in the configuration any more", account.Name)
	}
	role := plan.Roles[b.Create.Role.Name]
	if role == nil {
		return nil, Refuse(AccountNotGranted, "role %s, which binding %s gives in account %s, is not one of plan %s", b.Create.Role.Name, b.Name, account.Name, plan.Name)
	}
	into := *b
	into.Create, into.SignUp = nil, nil
	into.Grant, into.Direct, into.TTL = Grant{Account: account, Role: role}, plan.Direct, min(b.TTL, plan.TTL)
	return &into, nil
}

// configured reports whether the name is like that of an account of the configuration.
func (s *Snapshot) configured(name string) bool {
	if s.Rules.Accounts[name] != nil {
		return true
	}
	for other := range s.Rules.Accounts {
		if strings.EqualFold(other, name) {
			return true
		}
	}
	return false
}

// made says for operators what the account came from.
func (e *Entry) made() string {
	switch o := e.Origin; {
	case o == nil:
		return "it was signed up for"
	case o.Subject != "":
		return fmt.Sprintf("it is the own account of %q of %s", clip(o.Subject), o.Issuer)
	default:
		return fmt.Sprintf("it was made as %s with %s, of %s", o.Template, clip(o.Claims), o.Issuer)
	}
}

// pending makes the decision one on an account that is not there yet: what the identity gets there stays, and nobody is let in.
func (d *Decision) pending(c *Creation, conn Connection) {
	what := "does not exist yet: the first login by binding " + c.Binding + " makes it under plan " + c.Plan
	if c.Begun {
		what = "is being made: not every server has it yet"
	}
	d.Refusal = Refuse(AccountCreating, "account %s %s", c.Name, what)
	if conn.SignUp == nil {
		d.Create = c
	}
}
