package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// scopedWorld has a role whose permissions are in a template, beside a plain one.
func scopedWorld(t testing.TB) *Rules {
	app := &Account{Name: "APP", ID: "AAPP"}
	scope := func(name, key string, tags ...string) *Role {
		return &Role{Name: name, Scoped: &ScopedKey{Key: key, Account: app, Tags: templates(t, tags...)}}
	}
	worker, auditor := scope("worker", "AWORKER", "team:{{claim.team}}", "kind:job"), scope("auditor", "AAUDITOR")
	plain := &Role{Name: "plain", Publish: PermissionRules{Allow: templates(t, "app.>")}}
	bindings := []*Binding{
		{Name: "workers", Match: []Condition{condition(t, "groups", "jobs")}, Grant: Grant{app, worker}, TTL: time.Hour},
		{Name: "night", Match: []Condition{condition(t, "groups", "night")}, Grant: Grant{app, worker}, TTL: time.Minute, ConnectionTypes: []ConnectionType{Standard}},
		{Name: "auditors", Match: []Condition{condition(t, "groups", "audit")}, Grant: Grant{app, auditor}, TTL: time.Hour},
		{Name: "people", Match: []Condition{condition(t, "groups", "dev")}, Grant: Grant{app, plain}, TTL: time.Hour},
	}
	return &Rules{Accounts: map[string]*Account{"APP": app}, Bindings: map[string][]*Binding{"corp": bindings}}
}

func TestDecideScopedKey(t *testing.T) {
	tags := []string{"kind:job", "team:blue"}
	for _, c := range []struct {
		name   string
		claims string
		want   Reason
		key    string
		tags   []string
		ttl    time.Duration
	}{
		{"one", `{"groups": "jobs", "team": "blue"}`, Allowed, "AWORKER", tags, time.Hour},
		{"the same key by two bindings", `{"groups": ["jobs", "night"], "team": "blue"}`, Allowed, "AWORKER", tags, time.Minute},
		{"without tags", `{"groups": "audit"}`, Allowed, "AAUDITOR", nil, time.Hour},
		{"a plain role", `{"groups": "dev"}`, Allowed, "", nil, time.Hour},
		{"two keys", `{"groups": ["jobs", "audit"], "team": "blue"}`, RoleAmbiguous, "", nil, 0},
		{"a key and a plain role", `{"groups": ["dev", "jobs"], "team": "blue"}`, RoleAmbiguous, "", nil, 0},
		{"a tag without its claim", `{"groups": "jobs"}`, ClaimUnsafe, "", nil, 0},
		{"a tag with a wildcard", `{"groups": "jobs", "team": "*"}`, ClaimUnsafe, "", nil, 0},
		{"a tag with a capital letter", `{"groups": "jobs", "team": "Blue"}`, ClaimUnsafe, "", nil, 0},
		{"a tag with a function of templates", `{"groups": "jobs", "team": "{{name()}}"}`, ClaimUnsafe, "", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := scopedWorld(t)
			for range 2 { // in both orders of the bindings
				d := Decide(&Snapshot{Rules: rules}, person(t, c.claims), Connection{Type: Standard}, now, nil)
				if d.Reason() != c.want {
					t.Fatalf("%v, want %s", d.Refusal, c.want)
				}
				if d.ScopedKey != c.key || !slices.Equal(d.Tags, c.tags) || d.TTL != c.ttl {
					t.Errorf("key %q, tags %q, ttl %s; want %q, %q, %s", d.ScopedKey, d.Tags, d.TTL, c.key, c.tags, c.ttl)
				}
				if c.key != "" && len(d.Permissions.Publish.Allow)+len(d.Permissions.Subscribe.Allow) > 0 {
					t.Errorf("permissions %+v beside the template's", d.Permissions)
				}
				slices.Reverse(rules.Bindings["corp"])
			}
		})
	}
}

// The names of both roles must be in the refusal: an operator has to find them.
func TestRoleAmbiguousNamesTheRoles(t *testing.T) {
	d := Decide(&Snapshot{Rules: scopedWorld(t)}, person(t, `{"groups": ["dev", "audit"]}`), Connection{Type: Standard}, now, nil)
	if d.Reason() != RoleAmbiguous || !strings.Contains(d.Refusal.Detail, `"auditor"`) || !strings.Contains(d.Refusal.Detail, `"plain"`) {
		t.Errorf("%v", d.Refusal)
	}
}
