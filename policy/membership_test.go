package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"
)

// TestMembershipLaw has nobody let into an account of sign-up whom no accepted membership means just now, and no credential,
// of a login or a direct user, outlive the membership that it is by.
func TestMembershipLaw(t *testing.T) {
	t.Parallel()
	const corp, other = "https://login.example.com", "https://login.example.org"
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	asked := signUp(t, key)
	app := &Role{Name: "app", Publish: PermissionRules{Allow: []Template{mustTemplate(t, "app.>")}}}
	rules := &Rules{
		Issuers: map[string]string{"corp": corp, "other": other},
		Plans: map[string]*Plan{
			"free": {Name: "free", Roles: map[string]*Role{"app": app}, TTL: time.Hour, Direct: &Direct{TTL: 48 * time.Hour, Keys: 3}},
			"none": {Name: "none", Roles: map[string]*Role{}, TTL: time.Hour},
		},
	}
	rapid.Check(t, func(t *rapid.T) {
		id := &Identity{
			Issuer: "corp", IssuerURL: corp, Subject: rapid.SampledFrom([]string{"alice", "Alice", "bob"}).Draw(t, "who"), IssuedAt: now, Expires: now.Add(30 * time.Minute),
			Claims: map[string]any{"groups": rapid.SampledFrom([]any{"dev", "DEV", []any{"ops", "dev"}, []any{[]any{"dev"}}, nil}).Draw(t, "groups")},
		}
		in := id.Claims["groups"] == "dev" || fmt.Sprint(id.Claims["groups"]) == "[ops dev]"
		e := Entry{
			Account: Account{Name: "orders", ID: "Aorders", SigningKeys: []string{"AK"}},
			Plan:    rapid.SampledFrom([]string{"free", "none", "gone"}).Draw(t, "plan"), State: "active", Open: rapid.IntRange(0, 3).Draw(t, "open") > 0,
		}
		var ends []time.Time // of the memberships that hold, zero for good
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			role := rapid.SampledFrom([]string{"app", "boss", ""}).Draw(t, "role")
			p := Principal{Issuer: rapid.SampledFrom([]string{corp, other}).Draw(t, "issuer"), Subject: rapid.SampledFrom([]string{"alice", "bob", ""}).Draw(t, "subject")}
			match := ""
			if p.Subject == "" {
				match = `{"groups":["dev"]}`
			}
			until := rapid.SampledFrom([]time.Time{{}, now.Add(-time.Hour), now, now.Add(MinLife), now.Add(MinLife + time.Second), now.Add(10 * time.Minute), now.Add(time.Hour)}).Draw(t, "until")
			m, err := NewMembership(fmt.Sprint("m", i), role, p, match, until)
			if err != nil {
				t.Fatal(err)
			}
			e.Members = append(e.Members, m)
			means := p.Issuer == corp && (p.Subject == id.Subject || p.Subject == "" && in)
			if means && role == "app" && e.Plan == "free" && (until.IsZero() || until.Sub(now) > MinLife) {
				ends = append(ends, until)
			}
		}
		s := &Snapshot{Rules: rules, Revocations: NewRevocations(nil), Accounts: NewDirectory([]Entry{e})}
		for _, conn := range []Connection{{Type: Standard, Account: "orders"}, {Account: "orders", SignUp: asked}} {
			d := Decide(s, id, conn, now, nil)
			if d.Allowed() != (len(ends) > 0 && e.Open) {
				t.Fatalf("%+v: allowed %t, %v; memberships end at %v", conn, d.Allowed(), d.Refusal, ends)
			}
			if !d.Allowed() {
				continue
			}
			for _, end := range ends {
				if !end.IsZero() && d.Expires.After(end) || d.Expires.Before(now.Add(MinLife)) {
					t.Fatalf("the credential ends at %s, a membership at %s", d.Expires, end)
				}
			}
			if len(d.Bindings) != len(ends) || !strings.HasPrefix(d.Bindings[0], "member:") {
				t.Fatalf("by %v, want %d memberships", d.Bindings, len(ends))
			}
		}
		// Without its name nothing leads there.
		for _, name := range []string{"", "Orders", "ORDERS", "Aorders", "orders ", "orders\x00"} {
			if d := Decide(s, id, Connection{Type: Standard, Account: name}, now, nil); d.Allowed() {
				t.Fatalf("account %q is let into %s", name, d.Account.Name)
			}
		}
	})
}
