package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// TestRulesHaveAnIndex takes away every binding but the one that matches: a decision that looked at all would fail on that.
func TestRulesHaveAnIndex(t *testing.T) {
	t.Parallel()
	const many = 100
	var text strings.Builder
	text.WriteString(connected + `
issuers: [{ name: corp, url: "https://login.example.com/", audiences: nats }]
accounts: { APP: { id: $APP, signing_key: keys/app.nk } }
roles: { app: { subscribe: { allow: ["app.>"] } } }
bindings:
`)
	for i := range many {
		fmt.Fprintf(&text, "  - { name: b%d, issuer: corp, match: { groups: team-%d, email_verified: true }, grant: { account: APP, role: app } }\n", i, i)
	}
	rules := newFixture(t).mustLoad(text.String()).Rules()
	clear(rules.Bindings["corp"][1:])
	now := time.Now()
	id := &policy.Identity{
		Issuer: "corp", IssuerURL: rules.Issuers["corp"], Subject: "alice", IssuedAt: now, Expires: now.Add(time.Hour),
		Claims: map[string]any{"groups": []any{"team-0"}, "email_verified": true},
	}
	d := policy.Decide(&policy.Snapshot{Rules: rules}, id, policy.Connection{Type: policy.Standard}, now, nil)
	if !d.Allowed() || len(d.Bindings) != 1 || d.Bindings[0] != "b0" {
		t.Errorf("decided %v by %v, want by b0", d.Reason(), d.Bindings)
	}
}
