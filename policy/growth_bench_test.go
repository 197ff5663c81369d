package policy_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// growth is something of which there may be many, as decisions meet it.
type growth struct {
	name    string
	touched bool   // a decision looks at each of them
	account string // that the client names
	want    policy.Reason
	sizes   []int
	build   func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity)
}

var growths = []growth{
	{name: "bindings of its issuer", sizes: []int{10, 1000, 10_000}, build: withBindings(nil)},
	{name: "bindings of its issuer, none of which matches", want: policy.NoBinding, sizes: []int{10, 1000, 10_000}, build: withBindings(func(_ []*policy.Binding, id *policy.Identity) {
		id.Claims["groups"] = []any{"other"}
	})},
	{name: "bindings of its issuer, the groups left out of the token", want: policy.NoBinding, sizes: []int{10, 1000, 10_000}, build: withBindings(func(list []*policy.Binding, id *policy.Identity) {
		id.Claims = map[string]any{"hasgroups": true, "env": "dev"}
		for _, b := range list {
			b.Match = append(b.Match, conditionOn("env", "prod"))
		}
	})},
	{name: "groups", touched: true, sizes: []int{1, 100, 1000}, build: func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
		return scene{bindings: 4, groups: n}.build(b)
	}},
	{name: "bindings of another issuer", sizes: []int{10, 1000, 10_000}, build: func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
		return scene{bindings: 4, groups: 10, others: n}.build(b)
	}},
	{name: "issuers", sizes: []int{1, 100}, build: func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
		s, id := scene{bindings: 4, groups: 10}.build(b)
		s.Rules.Issuers = map[string]string{id.Issuer: id.IssuerURL}
		for i := range n - 1 {
			name := fmt.Sprintf("other%d", i)
			s.Rules.Issuers[name] = "https://" + name + ".example.com"
			s.Rules.Bindings[name] = s.Rules.Bindings[id.Issuer]
		}
		return s, id
	}},
	{name: "accounts of the configuration", sizes: []int{1, 1000, 20_000}, build: func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
		s, id := scene{bindings: 4, groups: 10}.build(b)
		own := s.Rules.Bindings[id.Issuer][0].Grant.Account
		s.Rules.Accounts = map[string]*policy.Account{own.Name: own}
		for i := range n - 1 {
			name := fmt.Sprintf("TEAM-%d", i)
			s.Rules.Accounts[name] = &policy.Account{Name: name, ID: name}
		}
		return s, id
	}},
	{name: "accounts of sign-up", sizes: []int{1, 1000, 20_000}, build: withAccounts},
	{name: "accounts of sign-up, one of them named", account: "team-0", sizes: []int{1, 1000, 20_000}, build: withAccounts},
	{name: "blocks of others", sizes: []int{10, 1000, 100_000}, build: func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
		s, id := scene{bindings: 4, groups: 10}.build(b)
		s.Revocations = policy.NewRevocations(blocks(n))
		return s, id
	}},
}

// BenchmarkGrowth shows what a decision costs when there is more of something: what it does not look at
// must cost nothing.
func BenchmarkGrowth(b *testing.B) {
	for _, g := range growths {
		for _, n := range g.sizes {
			b.Run(fmt.Sprintf("%s=%d", g.name, n), func(b *testing.B) {
				s, id := g.build(b, n)
				b.ReportAllocs()
				for b.Loop() {
					g.decide(b, s, id)
				}
			})
		}
	}
}

// withBindings returns what builds an index of so many bindings of the identity's issuer, after change, which may be nil.
func withBindings(change func([]*policy.Binding, *policy.Identity)) func(testing.TB, int) (*policy.Snapshot, *policy.Identity) {
	return func(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
		s, id := scene{bindings: n, groups: 10}.build(b)
		if change != nil {
			change(s.Rules.Bindings[id.Issuer], id)
		}
		s.Rules.Index()
		return s, id
	}
}

func conditionOn(claim, text string) policy.Condition {
	path, err := policy.ParseClaimPath(claim)
	glob, also := policy.ParseGlob(text)
	if err := errors.Join(err, also); err != nil {
		panic(err)
	}
	return policy.Condition{Claim: path, Values: []policy.Value{{Text: &glob}}}
}

// withAccounts returns a snapshot with so many accounts of sign-up; the identity is a member of each.
func withAccounts(b testing.TB, n int) (*policy.Snapshot, *policy.Identity) {
	s, id := scene{bindings: 4, groups: 10}.build(b)
	entries := make([]policy.Entry, n)
	for i := range entries {
		m, err := policy.NewMembership(fmt.Sprint("member-", i), "app", policy.Principal{Issuer: id.IssuerURL, Subject: id.Subject}, "", time.Time{})
		if err != nil {
			b.Fatal(err)
		}
		name := fmt.Sprintf("team-%d", i)
		entries[i] = policy.Entry{
			Account: policy.Account{Name: name, ID: "A-" + name, SigningKeys: []string{"SA-" + name}},
			Plan:    "free", Open: true, Members: []policy.Membership{m},
		}
	}
	s.Accounts = policy.NewDirectory(entries)
	role := s.Rules.Bindings[id.Issuer][0].Grant.Role
	s.Rules.Plans = map[string]*policy.Plan{"free": {Name: "free", Roles: map[string]*policy.Role{"app": role}, TTL: time.Hour}}
	return s, id
}

// decide expects what g wants.
func (g *growth) decide(t testing.TB, s *policy.Snapshot, id *policy.Identity) {
	if g.want == "" {
		decideOnce(t, s, id, g.account)
		return
	}
	if d := policy.Decide(s, id, policy.Connection{Type: policy.Standard, Account: g.account}, start, nil); d.Reason() != g.want {
		t.Fatalf("decided as %s, want %s", d.Reason(), g.want)
	}
}

// decideOnce expects a grant in the account that the client names; empty when it names none.
func decideOnce(t testing.TB, s *policy.Snapshot, id *policy.Identity, account string) {
	d := policy.Decide(s, id, policy.Connection{Type: policy.Standard, Account: account}, start, nil)
	if !d.Allowed() {
		t.Fatal(d.Refusal)
	}
	if account != "" && d.Account.Name != account {
		t.Fatalf("the login leads to %s, want %s", d.Account.Name, account)
	}
}
