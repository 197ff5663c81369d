package resolver

import (
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// A revocation, its lift and the limits of a plan reach an account that is just to be looked at: that servers have what they were given
// is not that they have what they are to have.
func TestChangeWhileLookedAt(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	k.t = t
	a := signUp(t, records, 1)[0]
	k.active(t, a)
	look := func() {
		t.Helper()
		eventually(t, func() error {
			k.c.roster.mu.Lock()
			defer k.c.roster.mu.Unlock()
			account := k.c.roster.accounts[a.ID]
			if k.c.roster.due[a.ID] != nil {
				return check(false, "it is not as it is to be yet")
			}
			account.look = atApplied // when it is worked on next
			return nil
		})
	}
	has := func(connections int64) {
		t.Helper()
		eventually(t, func() error { return k.hasConnections(t, a.ID, connections) })
	}
	look()
	r := k.revoke(policy.Suspension, policy.Target{Account: a.ID})
	has(0)
	look()
	k.lift(r)
	has(-1)
	look()
	limits := unlimited
	limits.Connections = 7
	k.plans.Store("free", limits)
	k.c.Wake()
	has(7)
}
