package resolver

import (
	"fmt"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/account"
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
