package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func named(name string, members ...Membership) Entry {
	return Entry{Account: Account{Name: name, ID: "A" + name, SigningKeys: []string{"AK" + name}}, Plan: "free", State: "active", Open: true, Members: members}
}

func membership(t *testing.T, role string, p Principal, match string, until time.Time) Membership {
	t.Helper()
	m, err := NewMembership("m-"+role, role, p, match, until)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestDirectoryLaw compares a directory that follows changes with one that is made of what is left.
func TestDirectoryLaw(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	left := map[string]Entry{} // by id
	var d *Directory
	for range 3000 {
		id := fmt.Sprint(r.IntN(40))
		e := named(fmt.Sprint("n", r.IntN(60)))
		e.Account.ID = id
		for other, o := range left {
			if other != id && o.Account.Name == e.Account.Name {
				e.Account.Name = "n" + id + "-own" // names are given out once
			}
		}
		before, size := d, d.Len()
		if r.IntN(3) == 0 {
			d = d.With(nil, []string{id})
			delete(left, id)
		} else {
			d = d.With([]Entry{e}, nil)
			left[id] = e
		}
		if before.Len() != size {
			t.Fatal("a change of the next directory changed the one before")
		}
	}
	var all []Entry
	for _, e := range left {
		all = append(all, e)
	}
	anew := NewDirectory(all)
	for name, d := range map[string]*Directory{"followed": d, "made anew": anew} {
		if d.Len() != len(left) {
			t.Errorf("%s: %d accounts, want %d", name, d.Len(), len(left))
		}
		seen := 0
		for e := range d.All {
			seen++
			if left[e.Account.ID].Account.Name != e.Account.Name || d.Named(e.Account.Name) != e || d.ID(e.Account.ID) != e {
				t.Errorf("%s: %+v is not found as it is", name, e)
			}
		}
		if seen != len(left) {
			t.Errorf("%s: %d accounts seen, want %d", name, seen, len(left))
		}
	}
	for i := range 60 {
		n := fmt.Sprint("n", i)
		if (d.Named(n) == nil) != (anew.Named(n) == nil) {
			t.Errorf("%s is there in one of the two", n)
		}
	}
}

func TestNewMembership(t *testing.T) {
	t.Parallel()
	match, err := FormatMatch(map[string][]any{"groups": {"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p     Principal
		match string
		fine  bool
	}{
		{Principal{Issuer: "https://i", Subject: "s"}, "", true},
		{Principal{Issuer: "https://i"}, match, true},
		{Principal{Issuer: "https://i"}, "", false},
		{Principal{Subject: "s"}, "", false},
		{Principal{}, match, false},
		{Principal{Issuer: "https://i", Subject: "s"}, match, false},
		{Principal{Issuer: "https://i"}, "{", false},
	} {
		if _, err := NewMembership("1", "app", c.p, c.match, time.Time{}); (err == nil) != c.fine {
			t.Errorf("%+v, %q: %v", c.p, c.match, err)
		}
	}
}

// TestMembership decides on logins that name an account of sign-up.
func TestMembership(t *testing.T) {
	t.Parallel()
	match, err := FormatMatch(map[string][]any{"groups": {"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	const issuer = "https://login.example.com"
	alice, bob := Principal{Issuer: issuer, Subject: "alice"}, Principal{Issuer: issuer, Subject: "bob"}
	app := &Role{Name: "app", Publish: PermissionRules{Allow: []Template{mustTemplate(t, "app.>")}}}
	configured := &Account{Name: "APP", ID: "AAPP", SigningKeys: []string{"AK"}}
	snapshot := func(entries ...Entry) *Snapshot {
		return &Snapshot{
			Revocations: NewRevocations(nil), Accounts: NewDirectory(entries),
			Rules: &Rules{
				Issuers: map[string]string{"corp": issuer}, Accounts: map[string]*Account{"APP": configured},
				Plans:    map[string]*Plan{"free": {Name: "free", Roles: map[string]*Role{"app": app}, TTL: time.Hour}},
				Bindings: map[string][]*Binding{"corp": {{Name: "all", Issuer: "corp", Grant: Grant{Account: configured, Role: app}, TTL: time.Minute}}},
			},
		}
	}
	closed, keyless, otherPlan := named("orders", membership(t, "app", alice, "", time.Time{})), named("orders", membership(t, "app", alice, "", time.Time{})), named("orders", membership(t, "app", alice, "", time.Time{}))
	closed.Open, closed.State = false, "creating"
	keyless.Account.SigningKeys = nil
	otherPlan.Plan = "gone"
	suspended := Revocation{ID: "s", Kind: Suspension, Target: Target{Account: "Aorders"}, At: now}
	blocked := Revocation{ID: "b", Kind: Block, Target: Target{Principal: alice}, At: now}
	for _, c := range []struct {
		name    string
		account string
		entry   Entry
		revoked []Revocation
		want    string // account
		reason  Reason
	}{
		{name: "a member who names the account", account: "orders", entry: named("orders", membership(t, "app", alice, "", time.Time{})), want: "orders"},
		{name: "a member who names none gets what bindings give", entry: named("orders", membership(t, "app", alice, "", time.Time{})), want: "APP"},
		{name: "by claims", account: "orders", entry: named("orders", membership(t, "app", Principal{Issuer: issuer}, match, time.Time{})), want: "orders"},
		{name: "by claims of another issuer", account: "orders", entry: named("orders", membership(t, "app", Principal{Issuer: "https://other"}, match, time.Time{})), reason: AccountNotGranted},
		{name: "somebody else's membership", account: "orders", entry: named("orders", membership(t, "app", bob, "", time.Time{})), reason: AccountNotGranted},
		{name: "one that has ended", account: "orders", entry: named("orders", membership(t, "app", alice, "", now)), reason: AccountNotGranted},
		{name: "a role that the plan does not have", account: "orders", entry: named("orders", membership(t, "boss", alice, "", time.Time{})), reason: AccountNotGranted},
		{name: "a plan that is gone", account: "orders", entry: otherPlan, reason: AccountNotGranted},
		{name: "an account that is not everywhere yet", account: "orders", entry: closed, reason: AccountUnready},
		{name: "an account without a key", account: "orders", entry: keyless, reason: AccountUnready},
		{name: "another spelling", account: "Orders", entry: named("orders", membership(t, "app", alice, "", time.Time{})), reason: AccountNotGranted},
		{name: "a name of the configuration is the configuration's", account: "APP", entry: named("APP", membership(t, "app", alice, "", time.Time{})), want: "APP"},
		{name: "suspended", account: "orders", entry: named("orders", membership(t, "app", alice, "", time.Time{})), revoked: []Revocation{suspended}, reason: AccountSuspended},
		{name: "blocked", account: "orders", entry: named("orders", membership(t, "app", alice, "", time.Time{})), revoked: []Revocation{blocked}, reason: Blocked},
	} {
		s := snapshot(c.entry)
		s.Revocations = NewRevocations(c.revoked)
		id := &Identity{Issuer: "corp", IssuerURL: issuer, Subject: "alice", IssuedAt: now, Expires: now.Add(time.Hour), Claims: map[string]any{"groups": []any{"dev"}}}
		d := Decide(s, id, Connection{Type: Standard, Account: c.account}, now, nil)
		got := ""
		if d.Allowed() {
			got = d.Account.Name
			if id := d.Account.ID; id != "A"+c.want {
				t.Errorf("%s: id %s", c.name, id)
			}
		} else if d.Reason() != c.reason {
			t.Errorf("%s: %s (%s), want %s", c.name, d.Reason(), d.Refusal.Detail, c.reason)
		}
		if got != c.want {
			t.Errorf("%s: account %q, want %q", c.name, got, c.want)
		}
	}
}

func mustTemplate(t *testing.T, subject string) Template {
	t.Helper()
	template, err := ParseTemplate(subject)
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// TestSignUps says who may sign up, for themselves and for others.
func TestSignUps(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	const issuer = "https://login.example.com"
	staff := []Condition{condition(t, "groups", "staff")}
	var noAddress netip.Addr
	s := &Snapshot{
		Revocations: NewRevocations(nil),
		Rules: &Rules{
			Issuers: map[string]string{"corp": issuer},
			Plans:   map[string]*Plan{"free": {}, "paid": {}},
			SignUps: map[string][]*Binding{"corp": {{Name: "staff", Match: staff, SignUp: []string{"paid", "free", "gone"}}, {Name: "again", Match: staff, SignUp: []string{"free"}}}},
			Admins: map[string][]*Binding{"corp": {
				{Name: "portal", Match: staff, OnBehalf: true, SignUp: []string{"free"}},
				{Name: "auditors", Match: staff, Rights: []Right{RightAudit}},
			}},
		},
	}
	identity := func(group string) *Identity {
		return &Identity{Issuer: "corp", IssuerURL: issuer, Subject: "alice", IssuedAt: now, Expires: now.Add(time.Hour), Claims: map[string]any{"groups": []any{group}}}
	}
	bound := identity("staff")
	bound.Claims["cnf"] = map[string]any{"jkt": "x"}
	bound.Claims["nonce"] = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	for _, c := range []struct {
		name    string
		id      *Identity
		plans   string
		refusal Reason
	}{
		{name: "sign up", id: identity("staff"), plans: "[free paid]"},
		{name: "sign up without a binding", id: identity("guests"), refusal: NoSignUp},
		{name: "sign up with a bound token", id: bound, refusal: KeyProofMissing},
	} {
		plans, r := SignUps(s, c.id, noAddress, now, nil)
		check(t, c.name, plans, r, c.plans, c.refusal)
	}
	plans, r := OnBehalf(s, identity("staff"), noAddress, now, nil)
	check(t, "act for others", plans, r, "[free]", "")
	plans, r = OnBehalf(s, identity("guests"), noAddress, now, nil)
	check(t, "act for others without a binding", plans, r, "", NoRights)
	if rights, r := Rights(s, identity("staff"), noAddress, now, nil); r != nil || fmt.Sprint(rights) != "[audit]" {
		t.Errorf("rights %v, %v", rights, r)
	}
	s.Rules.Admins["corp"] = s.Rules.Admins["corp"][:1]
	if rights, r := Rights(s, identity("staff"), noAddress, now, nil); r == nil || r.Reason != NoRights {
		t.Errorf("rights of who only acts for others: %v, %v", rights, r)
	}
	s.Revocations = NewRevocations([]Revocation{{ID: "b", Kind: Block, Target: Target{Principal: Principal{Issuer: issuer, Subject: "alice"}}, At: now}})
	plans, r = SignUps(s, identity("staff"), noAddress, now, nil)
	check(t, "blocked", plans, r, "", Blocked)
	plans, r = OnBehalf(s, identity("staff"), noAddress, now, nil)
	check(t, "blocked backend", plans, r, "", Blocked)
}

func check(t *testing.T, name string, plans []string, r *Refusal, want string, reason Reason) {
	t.Helper()
	switch {
	case r == nil && fmt.Sprint(plans) != want, r != nil && r.Reason != reason, r == nil && reason != "":
		t.Errorf("%s: %v, %v; want %s, %s", name, plans, r, want, reason)
	}
}

func TestDirectoryOf(t *testing.T) {
	t.Parallel()
	alice, at := &Identity{IssuerURL: "https://i", Subject: "alice", Claims: map[string]any{"sub": "alice"}}, time.Unix(100, 0)
	d := NewDirectory([]Entry{
		named("mine", membership(t, "app", Principal{Issuer: "https://i", Subject: "alice"}, "", time.Time{})), named("ended", membership(t, "app", Principal{Issuer: "https://i", Subject: "alice"}, "", at)),
		named("another's", membership(t, "app", Principal{Issuer: "https://j", Subject: "alice"}, "", time.Time{})), named("by-claims", membership(t, "app", Principal{Issuer: "https://i", Subject: ""}, `{"sub":["al*"]}`, time.Time{})),
	})
	var names []string
	for _, e := range d.Of(alice, at) {
		names = append(names, e.Account.Name)
	}
	if !slices.Equal(names, []string{"by-claims", "mine"}) {
		t.Errorf("got %v", names)
	}
	if list := (*Directory)(nil).Of(alice, at); len(list) != 0 {
		t.Errorf("an empty one has %v", list)
	}
}
