package policy

import (
	"errors"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"
)

// Entry is what decisions know of a self-service account.
type Entry struct {
	Account Account
	Plan    string // name of its plan, whose roles its members may have
	State   string // for people
	// Origin is what a first login made the account from; nil when none did.
	Origin *Origin
	// Coming says that the account is being made, and is not on every server yet.
	Coming bool
	// Open says that every server has the account and that it is not on its way out: nobody else is let in.
	Open    bool
	Members []Membership // that were accepted
}

// Membership gives an identity, or the identities of an issuer whose claims match, a role in an account.
type Membership struct {
	ID   string
	Role string // name of a role of the account's plan
	Principal
	match []Condition // of the issuer's identities, when no subject is set
	until time.Time   // zero: for good
}

// NewMembership returns a membership of an identity or, with a match as [FormatMatch] makes it, of an issuer's
// identities; an error when the match cannot be read or neither is given.
func NewMembership(id, role string, p Principal, match string, until time.Time) (Membership, error) {
	m := Membership{ID: id, Role: role, Principal: p, until: until}
	if p.Issuer == "" || (p.Subject == "") == (match == "") {
		return Membership{}, errMembership
	}
	if match == "" {
		return m, nil
	}
	var err error
	m.match, err = ParseMatch(match)
	return m, err
}

var errMembership = errors.New("a membership names an issuer and either a subject or claims")

// holds reports whether the membership is the identity's at now.
func (m *Membership) holds(id *Identity, now time.Time) bool {
	if m.Issuer != id.IssuerURL || !m.until.IsZero() && !now.Before(m.until) {
		return false
	}
	if m.Subject != "" {
		return m.Subject == id.Subject
	}
	for i := range m.match {
		if !m.match[i].Match(id.Claims) {
			return false
		}
	}
	return len(m.match) > 0
}

// Plan is what members of the accounts of a plan may be.
type Plan struct {
	Name  string
	Roles map[string]*Role
	TTL   time.Duration // longest life of a credential
	// Direct are the terms for direct users; nil permits none.
	Direct *Direct
}

// shards is how many parts a directory has: a change copies the parts that it touches and no other.
const shards = 1024

// Directory holds the self-service accounts. It is immutable; a nil one is empty.
type Directory struct {
	seed   maphash.Seed
	byName [shards]map[string]*Entry // as [foldName] makes names one
	byID   [shards]map[string]*Entry
	size   int
}

// NewDirectory returns a directory of the entries.
func NewDirectory(entries []Entry) *Directory {
	d := &Directory{seed: maphash.MakeSeed()}
	for i := range entries {
		d.put(&entries[i], put)
	}
	return d
}

// With returns the directory with the entries in place of those with the same id; those that are gone are
// named by id alone.
func (d *Directory) With(changed []Entry, gone []string) *Directory {
	next := &Directory{}
	if d == nil {
		next.seed = maphash.MakeSeed()
	} else {
		*next = *d
	}
	copied := map[*map[string]*Entry]bool{}
	own := func(shard *map[string]*Entry, key string, e *Entry) {
		if !copied[shard] {
			*shard, copied[shard] = maps.Clone(*shard), true
		}
		put(shard, key, e)
	}
	for _, id := range gone {
		next.remove(id, own)
	}
	for i := range changed {
		next.remove(changed[i].Account.ID, own)
		next.put(&changed[i], own)
	}
	return next
}

func put(shard *map[string]*Entry, key string, e *Entry) {
	if e == nil {
		delete(*shard, key)
		return
	}
	if *shard == nil {
		*shard = map[string]*Entry{}
	}
	(*shard)[key] = e
}

func (d *Directory) put(e *Entry, set func(*map[string]*Entry, string, *Entry)) {
	set(&d.byID[d.shard(e.Account.ID)], e.Account.ID, e)
	name := foldName(e.Account.Name)
	set(&d.byName[d.shard(name)], name, e)
	d.size++
}

func (d *Directory) remove(id string, set func(*map[string]*Entry, string, *Entry)) {
	e := d.byID[d.shard(id)][id]
	if e == nil {
		return
	}
	set(&d.byID[d.shard(id)], id, nil)
	// The name may be another account's by now.
	if name := foldName(e.Account.Name); d.byName[d.shard(name)][name] == e {
		set(&d.byName[d.shard(name)], name, nil)
	}
	d.size--
}

func (d *Directory) shard(key string) int { return int(maphash.String(d.seed, key) % shards) }

// Named returns the account with exactly that name, nil when there is none.
func (d *Directory) Named(name string) *Entry {
	if e := d.Like(name); e != nil && e.Account.Name == name {
		return e
	}
	return nil
}

// Like returns the account that has the name, in whatever case, nil when there is none: two such are one name to the store.
func (d *Directory) Like(name string) *Entry {
	if d == nil {
		return nil
	}
	name = foldName(name)
	return d.byName[d.shard(name)][name]
}

// foldName returns the name as package account compares names.
func foldName(name string) string { return strings.ToLower(name) }

// ID returns the account with that id, nil when there is none.
func (d *Directory) ID(id string) *Entry {
	if d == nil {
		return nil
	}
	return d.byID[d.shard(id)][id]
}

// Len returns how many accounts there are.
func (d *Directory) Len() int {
	if d == nil {
		return 0
	}
	return d.size
}

// All calls yield with every account, in no order, until it returns false.
func (d *Directory) All(yield func(*Entry) bool) {
	if d == nil {
		return
	}
	for _, shard := range d.byID {
		for _, e := range shard {
			if !yield(e) {
				return
			}
		}
	}
}

// grants returns what the memberships of the account give the identity, as bindings, or why nothing.
func (e *Entry) grants(plans map[string]*Plan, id *Identity, now time.Time, trace *Trace) ([]*Binding, *Refusal) {
	grants := e.memberships(plans, id, now, trace)
	if len(grants) == 0 && plans[e.Plan] == nil && e.IsMember(id, now) {
		return nil, Refuse(AccountNotGranted, "plan %s of account %s is not in the configuration any more", e.Plan, e.Account.Name)
	}
	if len(grants) == 0 {
		return nil, Refuse(AccountNotGranted, "no membership of account %s is the identity's", e.Account.Name)
	}
	if r := e.unready(); r != nil {
		return nil, r
	}
	return slices.Clip(grants), nil
}

// unready says why nobody can be let into the account now, nil when somebody can.
func (e *Entry) unready() *Refusal {
	switch {
	case !e.Open:
		return Refuse(AccountUnready, "account %s is %s: it is not confirmed on every server", e.Account.Name, e.State)
	case len(e.Account.SigningKeys) == 0:
		return Refuse(AccountUnready, "account %s has no signing key that is current", e.Account.Name)
	default:
		return nil
	}
}

// memberships returns what the memberships of the account give the identity, as bindings.
func (e *Entry) memberships(plans map[string]*Plan, id *Identity, now time.Time, trace *Trace) []*Binding {
	var grants []*Binding
	plan := plans[e.Plan]
	for i := range e.Members {
		m := &e.Members[i]
		if !m.holds(id, now.Add(MinLife)) { // no credential that ends with it would live for long enough
			continue
		}
		b := &Binding{Name: "member:" + m.ID, Issuer: id.Issuer, Until: m.until}
		switch {
		case plan == nil:
			trace.add(b, false, "plan "+e.Plan+" of account "+e.Account.Name+" is not in the configuration any more")
		case plan.Roles[m.Role] == nil:
			trace.add(b, false, "role "+m.Role+" is not one of plan "+e.Plan)
		default:
			b.Grant, b.Direct, b.TTL = Grant{Account: &e.Account, Role: plan.Roles[m.Role]}, plan.Direct, plan.TTL
			trace.add(b, true, b.gives())
			grants = append(grants, b)
		}
	}
	return grants
}

// IsMember reports whether a membership of the account is the identity's at now.
func (e *Entry) IsMember(id *Identity, now time.Time) bool {
	return slices.ContainsFunc(e.Members, func(m Membership) bool { return m.holds(id, now) })
}

// Of returns the accounts that a membership of is the identity's at now, by name.
func (d *Directory) Of(id *Identity, now time.Time) []*Entry {
	var list []*Entry
	d.All(func(e *Entry) bool {
		if e.IsMember(id, now) {
			list = append(list, e)
		}
		return true
	})
	slices.SortFunc(list, func(a, b *Entry) int { return strings.Compare(a.Account.Name, b.Account.Name) })
	return list
}
