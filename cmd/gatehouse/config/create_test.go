package config

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy/cases"
)

// creating is a configuration with a binding of that grant, and one more line of plans.
func creating(f *fixture, grant, plan string) string {
	seed, _ := testKey(f, nkeys.PrefixByteOperator, "operator")
	f.write("keys/operator.nk", seed)
	f.write("keys/seal.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
	return connected + `
operator: { signing_key: keys/operator.nk }
seal: { key: keys/seal.key }
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
roles:
  app: { publish: { allow: ["{{claim.region}}.>"] } }
plans:
  team: { roles: [owner, app], names: "team-*", ttl: 10m }
  ` + plan + `
bindings:
  - name: teams
    issuer: corp
    match: { groups: dev }
    grant: { ` + grant + ` }
`
}

// TestFirstLoginPage loads the example of docs/accounts.md.
func TestFirstLoginPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/accounts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Accounts that a first login makes")
	_, section, _ = strings.Cut(section, "```yaml\n")
	example, _, found := strings.Cut(section, "```")
	if !found {
		t.Fatal("the page has no example")
	}
	f := newFixture(t)
	before, _, _ := strings.Cut(creating(f, "", ""), "plans:")
	c := f.mustLoad(before + example)
	if n := len(c.Rules().Creates["corp"]); n != 2 || len(c.Warnings) != 0 {
		t.Errorf("%d bindings create accounts; warnings %v", n, c.Warnings)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(creating(f, `create: { plan: team, role: app, name: "team-{{ claim.team }}", for: team, per_minute: 30, max: 7 }, sign_up: [team]`, ""))
	rules := c.Rules()
	if len(rules.Creates["corp"]) != 1 || len(rules.Bindings["corp"]) != 0 || len(rules.SignUps["corp"]) != 1 {
		t.Fatalf("bindings that create %v, that grant %v", rules.Creates, rules.Bindings)
	}
	create := rules.Creates["corp"][0].Create
	if create.Plan != "team" || create.Role != rules.Plans["team"].Roles["app"] || create.Own || create.PerMinute != 30 || create.Max != 7 || create.Name.String() != "team-{{claim.team}}" {
		t.Errorf("it creates %+v", create)
	}
	for name, valid := range map[string]bool{"team-orders": true, "Team-Orders": true, "orders": false, "team-": false, "team-é": false, "sys": false} {
		if err := create.Valid(name); (err == nil) != valid {
			t.Errorf("name %s: %v", name, err)
		}
	}
	picked := rules.Recorded["corp"].Pick(map[string]any{"team": "orders", "region": "eu", "groups": "dev", "email": "x"})
	if len(picked) != 3 {
		t.Errorf("recorded are %v", picked)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Message, "may take such a name first") {
		t.Errorf("warnings %v", c.Warnings)
	}
	list, err := ReadCases(f.write("cases.yaml", `
cases:
  - name: a first login
    claims: { sub: alice, groups: dev, team: orders, region: eu }
    expect: { allow: { account: team-orders, roles: app, bindings: teams, ttl: 10m, publish: { can: eu.x } } }
`), c)
	if err != nil {
		t.Fatal(err)
	}
	if r := cases.Run(rules, list[0], time.Now()); len(r.Failures) > 0 {
		t.Error(r.Failures)
	}
	own := f.mustLoad(creating(f, `create: { plan: own, role: app, name: "{{name}}", for: person }`, "own: { roles: [app] }"))
	if create := own.Rules().Creates["corp"][0].Create; !create.Own || create.PerMinute != 600 || create.Max != 10000 {
		t.Errorf("it creates %+v", create)
	}
	if len(own.Warnings) != 0 {
		t.Errorf("warnings %v", own.Warnings)
	}
	if a, b := c.Rules().Version, f.mustLoad(creating(f, `create: { plan: team, role: app, name: "team-{{ claim.team }}", for: team }, sign_up: [team]`, "")).Rules().Version; a == b {
		t.Error("another rate is the same version of the rules")
	}
}
