package resolver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// has returns an error unless the server has applied such claims of the account.
func (k *keeper) has(t testing.TB, id, what string, want func(*jwt.AccountClaims) bool) error {
	d := &delivery{account: id}
	if err := k.r.readApplied(t.Context(), []*delivery{d}); err != nil {
		return err
	}
	for _, token := range d.applied {
		claims, err := jwt.DecodeAccountClaims(token)
		if err != nil {
			return err
		}
		if !want(claims) {
			return fmt.Errorf("claims are not %s: %+v", what, claims.Limits)
		}
	}
	return check(len(d.applied) == 1, "no answer")
}

// hasConnections is has for the limit of connections.
func (k *keeper) hasConnections(t testing.TB, id string, n int64) error {
	return k.has(t, id, fmt.Sprintf("for %d connections", n), func(c *jwt.AccountClaims) bool { return c.Limits.Conn == n })
}

// Limits of a plan reach its accounts when they change.
func TestPlanChanges(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	a := signUp(t, records, 1)[0]
	a.Exports = []account.Export{{Name: "a", Subject: "a", Type: account.StreamType}, {Name: "b", Subject: "b", Type: account.ServiceType}}
	a.Account = records.save(a.Account)
	k.active(t, a)
	limits := unlimited
	limits.Connections, limits.Exports = 7, 1 // of which it has two: servers would refuse the one with the other
	k.plans.Store("free", limits)
	k.c.Wake()
	eventually(t, func() error { return k.hasConnections(t, a.ID, 7) })
}

// An account whose plan is gone keeps the limits that were written last, whoever holds the lease, and what revocations and its record
// ask is done all the same. With the plan it gets what that says by then.
func TestPlanGone(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records, ledger := newRecords(), newLedger()
	k := keep(t, s, ledger, records, nil)
	k.t = t
	limits := unlimited
	limits.Connections = 7
	k.plans.Store("free", limits)
	a := signUp(t, records, 1)[0]
	k.active(t, a)
	has := func(k *keeper, what string, want func(*jwt.AccountClaims) bool) {
		t.Helper()
		eventually(t, func() error { return k.has(t, a.ID, what, want) })
	}
	connections := func(n int64) func(*jwt.AccountClaims) bool {
		return func(c *jwt.AccountClaims) bool { return c.Limits.Conn == n }
	}
	closes := func(k *keeper) {
		t.Helper()
		r := k.revoke(policy.Suspension, policy.Target{Account: a.ID})
		has(k, "closed", connections(0))
		k.lift(r)
		has(k, "as before", connections(7))
	}
	has(k, "those of the plan", connections(7))
	k.plans.Delete("free")
	k.c.Wake()
	closes(k)
	k.stop()

	next := keepPlanless(t, s, ledger, records)
	next.t = t
	closes(next)
	a.Account = records.get(a.ID)
	a.Description = "changed without a plan"
	a.Account = records.save(a.Account)
	next.active(t, a)
	has(next, "what the record asks", func(c *jwt.AccountClaims) bool {
		return c.Limits.Conn == 7 && c.Description == "changed without a plan"
	})

	// One that servers have never had is told of, and waits.
	late := signUp(t, records, 1)[0]
	eventually(t, func() error {
		problems := strings.Join(next.c.Status().Problems, ";")
		return check(strings.Contains(problems, "its plan is not in the configuration"), "problems: %s", problems)
	})
	limits.Connections = 9
	next.plans.Store("free", limits)
	next.c.Wake()
	has(next, "those of the plan that is back", connections(9))
	next.active(t, late)
}
