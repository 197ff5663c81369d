package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// A tag with a capital letter refuses the login, and an account's name is the same for all.
func TestLintOfTags(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const policy = connected + `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
accounts:
  APP: { id: $APP }
roles:
  worker: { scoped_key: keys/worker.nk, account: APP, tags: ["of:{{account}}"] }
bindings:
  - { name: jobs, issuer: corp, match: { groups: jobs }, grant: { account: APP, role: worker } }
`
	w := f.mustLoad(policy).Warnings
	if len(w) != 1 || w[0].Path != "bindings[0].grant.role" || !strings.Contains(w[0].Message, `puts {{account}} into a tag, and nats-server folds the capital letters of "APP"`) {
		t.Errorf("warnings %v", w)
	}
	if w := f.mustLoad(strings.NewReplacer("APP:", "app:", "account: APP", "account: app").Replace(policy)).Warnings; len(w) > 0 {
		t.Errorf("a small name: %v", w)
	}
}

// An account whose roles all have scoped signing keys needs no plain one: Gatehouse then holds no
// key that could do more than the templates allow.
func TestScopedRoleNeedsNoPlainKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(connected + `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
accounts:
  APP: { id: $APP }
roles:
  worker: { scoped_key: keys/worker.nk, account: APP, tags: ["team:{{claim.team}}"] }
bindings:
  - { name: jobs, issuer: corp, match: { groups: jobs }, grant: { account: APP, role: worker } }
`)
	_, worker := testKey(t, nkeys.PrefixByteAccount, "scoped worker")
	rules := c.Rules()
	scope := rules.Bindings["corp"][0].Grant.Role.Scoped
	if scope == nil || scope.Key != worker || scope.Account != rules.Accounts["APP"] || len(scope.Tags) != 1 {
		t.Errorf("the role has scope %+v", scope)
	}
	if key := c.Keyring().Key(worker); key == nil || key.Public() != worker {
		t.Errorf("the keyring has %v for the scoped key", key)
	}
	if got := c.ScopedKeys()[rules.Accounts["APP"].ID]; !slices.Equal(got, []string{worker}) {
		t.Errorf("scoped keys of the account: %v", got)
	}
	for _, w := range c.Warnings {
		if strings.HasPrefix(w.Path, "roles") {
			t.Errorf("warning %s", w)
		}
	}
}
