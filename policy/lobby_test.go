package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// withLobby adds a lobby to the rules: for everybody of corp inside, and for admins.
func withLobby(t testing.TB) *Rules {
	rules := administration(t)
	lobby := &Account{Name: LobbyName, ID: "ALOBBY"}
	role := &Role{Name: "lobby",
		Publish:   PermissionRules{Allow: templates(t, "gatehouse.v1.>")},
		Subscribe: PermissionRules{Allow: templates(t, "{{inbox}}.>")},
	}
	rules.Lobby = map[string][]*Binding{"corp": {
		{Name: "newcomers", Issuer: "corp", Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Grant: Grant{lobby, role}, TTL: 15 * time.Minute},
		{Name: "security", Issuer: "corp", Match: []Condition{condition(t, "groups", "sec")}, Grant: Grant{lobby, role}, TTL: 15 * time.Minute},
	}}
	return rules
}

func TestLobby(t *testing.T) {
	inside := Connection{Type: Standard, Source: netip.MustParseAddr("10.1.2.3")}
	outside := Connection{Type: Standard, Source: netip.MustParseAddr("192.0.2.1")}
	named := func(c Connection, account string) Connection { c.Account = account; return c }
	p := Principal{Issuer: "https://login.example.com", Subject: "alice"}
	for _, c := range []struct {
		name        string
		claims      string
		conn        Connection
		revocations []Revocation
		want        Reason
		account     string
	}{
		{name: "nobody else admits it", claims: `{}`, conn: inside, want: Allowed, account: LobbyName},
		{name: "an admin without an account", claims: `{"groups": ["sec"]}`, conn: outside, want: Allowed, account: LobbyName},
		{name: "another binding admits it", claims: developer, conn: inside, want: Allowed, account: "APP"},
		{name: "another one admits it, and it names the lobby", claims: developer, conn: named(inside, LobbyName), want: Allowed, account: LobbyName},
		{name: "it names another account", claims: `{}`, conn: named(inside, "APP"), want: NoBinding},
		{name: "it names an account that it is not granted", claims: developer, conn: named(inside, "OPS"), want: AccountNotGranted},
		{name: "it names the lobby, which it may not enter", claims: developer, conn: named(outside, LobbyName), want: AccountNotGranted},
		{name: "the lobby is for other addresses", claims: `{}`, conn: outside, want: NoBinding},
		{name: "leaf nodes have no business there", claims: `{}`, conn: Connection{Type: LeafNode, Source: inside.Source}, want: NoBinding},
		{name: "several accounts and none named", claims: `{"groups": ["dev", "ops"], "email_verified": true, "team": "blue"}`, conn: inside, want: AccountAmbiguous},
		{name: "blocked", claims: `{}`, conn: inside, revocations: []Revocation{{Kind: Block, Target: Target{Principal: p}}}, want: Blocked},
		{name: "its account is suspended", claims: developer, conn: inside, revocations: []Revocation{{Kind: Suspension, Target: Target{Account: "AAPP"}}}, want: AccountSuspended},
		{name: "the lobby is suspended", claims: `{}`, conn: inside, revocations: []Revocation{{Kind: Suspension, Target: Target{Account: "ALOBBY"}}}, want: AccountSuspended},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.revocations {
				c.revocations[i].ID, c.revocations[i].At = "r", now
			}
			s := &Snapshot{Rules: withLobby(t), Revocations: NewRevocations(c.revocations)}
			id := person(t, c.claims)
			d := Decide(s, id, c.conn, now, nil)
			if d.Reason() != c.want || d.Allowed() && d.Account.Name != c.account {
				t.Fatalf("%s %+v, want %s %s", d.Reason(), d.Account, c.want, c.account)
			}
			if c.account != LobbyName {
				return
			}
			inbox := InboxPrefix(id.IssuerURL, id.Subject) + ".>"
			if !slices.Equal(d.Permissions.Publish.Allow, []string{"gatehouse.v1.>"}) || !slices.Equal(d.Permissions.Subscribe.Allow, []string{inbox}) {
				t.Errorf("permissions %+v", d.Permissions)
			}
		})
	}
}
