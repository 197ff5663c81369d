package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// TestLint holds every warning about a bad policy against testdata/lint/bad.txt.
func TestLint(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/lint/bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	spare, _ := testKey(t, nkeys.PrefixByteAccount, "spare")
	f.write("keys/spare.nk", spare)
	var got strings.Builder
	for _, w := range f.mustLoad(string(content)).Warnings {
		fmt.Fprintln(&got, f.relative(w.String()))
	}
	const golden = "testdata/lint/bad.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// Replicas that cannot tell each other anything are warned of where the creds file shows it.
func TestLintReplicas(t *testing.T) {
	t.Parallel()
	allow := func(subjects ...string) jwt.Permission { return jwt.Permission{Allow: subjects} }
	all := allow("$SYS.>", "gatehouse.>", "_INBOX.>")
	for name, c := range map[string]struct {
		user  jwt.Permissions
		store string
		want  string
	}{
		"everything":               {},
		"what init gives":          {user: jwt.Permissions{Pub: all, Sub: all}},
		"more than that":           {user: jwt.Permissions{Pub: allow(">"), Sub: allow("*.>")}},
		"nothing of it":            {user: jwt.Permissions{Pub: allow("$SYS.>"), Sub: allow("$SYS.>")}, want: "publish to gatehouse.>, nor publish to _INBOX.>, nor subscribe to gatehouse.>, nor subscribe to _INBOX.>"},
		"not all of it":            {user: jwt.Permissions{Pub: all, Sub: allow("gatehouse.v1.>", "_INBOX.>")}, want: "subscribe to gatehouse.>"},
		"denied":                   {user: jwt.Permissions{Pub: jwt.Permission{Deny: jwt.StringList{"_INBOX.>"}}}, want: "publish to _INBOX.>"},
		"something else is denied": {user: jwt.Permissions{Pub: jwt.Permission{Deny: jwt.StringList{"app.>"}}}},
		"one replica":              {user: jwt.Permissions{Pub: allow("$SYS.>")}, store: "sqlite:gatehouse.db"},
	} {
		if c.store == "" {
			c.store = "postgres://gatehouse@db/gatehouse"
		}
		f := newFixture(t)
		f.write("creds/callout.creds", limitedCreds(t, "callout", c.user))
		got := ""
		for _, w := range f.mustLoad(small + "\nstore: " + c.store + "\n").Warnings {
			if strings.Contains(w.String(), "nats.callout.creds") {
				got += w.String()
			}
		}
		if (got == "") != (c.want == "") || c.want != "" && !strings.Contains(got, "the user may not "+c.want+":") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A good policy has no warning: each of these comes close to one.
func TestLintIsSilentWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, policy := range map[string]string{
		"a shorter ttl": `
roles: { app: { publish: { allow: ["app.>"] } } }
bindings:
  - { name: all, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }
  - { name: some, issuer: corp, match: { groups: dev, temp: true }, grant: { account: APP, role: app }, ttl: 5m }`,
		"more in a narrower binding": `
roles: { app: { publish: { allow: ["app.>"] } }, more: { publish: { allow: ["app.>", "more.>"] } } }
bindings:
  - { name: all, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }
  - { name: some, issuer: corp, match: { groups: dev, lead: true }, grant: { account: APP, role: more } }`,
		"conditions and addresses that are not all there are": `
roles: { app: { publish: { allow: ["app.>"] } }, more: { publish: { allow: ["more.>"] } }, less: { publish: { allow: ["less.>"] } } }
bindings:
  - { name: some, issuer: corp, match: { sub: "*@example.com" }, grant: { account: APP, role: app } }
  - { name: ipv4, issuer: corp, source: [0.0.0.0/0], grant: { account: APP, role: more } }
  - { name: both, issuer: corp, match: { iss: "*", groups: "*" }, grant: { account: APP, role: less } }`,
		"a role that only denies": `
roles: { app: { publish: { allow: ["app.>"] }, subscribe: { allow: ["app.>"] } }, quiet: { publish: { allow: [hello], deny: ["app.loud.>"] } } }
bindings:
  - { name: all, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }
  - { name: some, issuer: corp, match: { groups: dev, new: true }, grant: { account: APP, role: quiet } }`,
		"the whole API less what is dangerous": `
roles: { app: { publish: { allow: ["$JS.>"], deny: ["$JS.API.>"] }, subscribe: { allow: ["_INBOX.>", "{{inbox}}.>"] } } }
bindings:
  - { name: all, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }`,
		"ends with all below, and with nothing": `
roles: { app: { inbox: private, subscribe: { allow: ["a.*", "a.*.>", "b.*", "c"] } } }
bindings:
  - { name: all, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }`,
		"two accounts for different people": `
roles: { app: { publish: { allow: ["app.{{account}}.>"] } } }
bindings:
  - { name: one, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }
  - { name: two, issuer: corp, match: { groups: ops }, grant: { account: OTHER, role: app } }`,
		"claims of every kind": `
roles: { app: { publish: { allow: ["app.>"] } } }
bindings:
  - { name: one, issuer: corp, match: { iss: "https://login.*", sub: ["x-*", 7], exp: [1800000000, x] }, grant: { account: APP, role: app } }
  - { name: two, issuer: corp, when: has(claims.x), source: [10.0.0.0/8, 192.0.2.1, "::1"], grant: { account: APP, role: app } }`,
		"direct users for a day, and few": `
roles: { app: { publish: { allow: ["app.>"] } } }
bindings:
  - { name: one, issuer: corp, match: { groups: jobs }, grant: { account: APP, role: app, direct: { ttl: 24h, keys: 3 } } }
  - { name: all, issuer: corp, match: { groups: jobs, night: true }, grant: { account: APP, role: app } }
  - { name: two, issuer: corp, when: claims.b == 1, grant: { account: APP, role: app, direct: { ttl: 1h } } }`,
		"bindings that differ by when": `
roles: { app: { publish: { allow: ["app.>"] } } }
bindings:
  - { name: one, issuer: corp, when: claims.a == 1, grant: { account: APP, role: app } }
  - { name: two, issuer: corp, when: claims.b == 1, grant: { account: APP, role: app } }`,
	} {
		text := around + policy
		if strings.Contains(policy, "OTHER") {
			text = strings.Replace(text, "accounts:\n", "accounts:\n  OTHER: { id: $OTHER, signing_key: keys/app-new.nk }\n", 1)
		}
		if w := f.mustLoad(text).Warnings; len(w) > 0 {
			t.Errorf("%s: %s", name, w)
		}
	}
}

// Two roles that are harmless alone let whoever has both hear more.
func TestLintOfRolesTogether(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const policy = around + `
roles:
  status: { inbox: private, subscribe: { allow: ["app.*"] } }
  detail: { inbox: private, subscribe: { allow: ["app.x.detail"] } }
bindings:
  - { name: all, issuer: corp, match: { groups: [dev, ops] }, grant: { account: APP, role: status } }
  - { name: some, issuer: corp, match: { groups: ops }, grant: { account: APP, role: detail } }
`
	w := f.mustLoad(policy).Warnings
	if len(w) != 1 || w[0].Path != "bindings[1]" || !strings.Contains(w[0].Message, "also has role status by all, and hears more by the two than by each") {
		t.Errorf("warnings %v", w)
	}
	for _, other := range []string{
		strings.Replace(policy, "groups: ops", "groups: elsewhere", 1),
		strings.Replace(policy, "app.x.detail", "jobs.x.detail", 1),
		strings.Replace(policy, `"app.x.detail"`, `"app.*.>"`, 1),
	} {
		if w := f.mustLoad(other).Warnings; len(w) > 0 {
			t.Errorf("%v\n%s", w, other)
		}
	}
}

// Every login of an issuer evaluates the conditions that no match stands before.
func TestLintOfManyExpressions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	many := func(n int, match string) string {
		var b strings.Builder
		b.WriteString(around + "roles: { app: { publish: { allow: [\"app.>\"] } } }\nbindings:\n")
		for i := range n {
			fmt.Fprintf(&b, "- { name: b%d, issuer: corp, when: '\"g%d\" in claims.groups', %s grant: { account: APP, role: app } }\n", i, i, match)
		}
		return b.String()
	}
	for _, text := range []string{many(maxUnmatched, ""), many(maxUnmatched+1, "match: { kind: person }, ")} {
		if w := f.mustLoad(text).Warnings; len(w) > 0 {
			t.Errorf("%s", w)
		}
	}
	w := f.mustLoad(many(maxUnmatched+1, "")).Warnings
	if len(w) != 1 || !strings.Contains(w[0].Message, "101 of issuer corp have when and no match") {
		t.Errorf("%d expressions: %s", maxUnmatched+1, w)
	}
}

// Comparing is quadratic in the bindings of one issuer, and bounded.
func TestLintOfManyBindings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	many := func(n int) string {
		var b strings.Builder
		b.WriteString(around + "roles: { app: { publish: { allow: [\"app.>\"] } } }\nbindings:\n")
		for i := range n {
			fmt.Fprintf(&b, "- { name: b%d, issuer: corp, match: { groups: g%d }, grant: { account: APP, role: app } }\n", i, i)
		}
		return b.String()
	}
	if w := f.mustLoad(many(maxCompared)).Warnings; len(w) > 0 {
		t.Errorf("%d bindings: %s", maxCompared, w)
	}
	w := f.mustLoad(many(maxCompared + 1)).Warnings
	if len(w) != 1 || !strings.Contains(w[0].Message, "the 2001 of issuer corp were not compared") {
		t.Errorf("%d bindings: %s", maxCompared+1, w)
	}
}
