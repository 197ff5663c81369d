package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

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
