package resolver

import (
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// unlift takes a revocation out of what is in force; nobody is told.
func (l *ledger) unlift(r store.Revocation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.revocations, r.ID)
}

// What servers have applied of a record says what revocations asked when the record changed: whoever waits for it after a lift is
// let in, although the writer was not told of the lift.
func TestAppliedRecordIsOpen(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records := newRecords()
	k := keepEvery(t, time.Hour, s, newLedger(), records, nil, Full)
	k.t = t
	a := signUp(t, records, 1)[0]
	k.active(t, a)
	for range 5 {
		r := k.revoke(policy.Suspension, policy.Target{Account: a.ID})
		k.unlift(r)
		records.save(records.get(a.ID))
		k.active(t, a)
		if err := a.dial(t, s.ClientURL()); err != nil {
			t.Fatal(err)
		}
	}
}

// An account that was suspended while it was only requested is closed from the first claims that servers get, and so is one whose
// key was suspended before anybody signed up with it.
func TestAccountIsSuspendedFromTheFirst(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records := newRecords()
	k := keepEvery(t, time.Hour, s, newLedger(), records, nil, Full)
	k.t = t
	for range 5 {
		a, b := newSigned(t, "team"), newSigned(t, "own")
		a.State = account.Requested
		a.Account = records.save(a.Account)
		k.store(policy.Suspension, policy.Target{Account: a.ID})
		k.store(policy.Suspension, policy.Target{Account: b.ID})
		a.State = account.Creating
		a.Account = records.save(a.Account)
		k.active(t, a) // whoever knows that of a has been told of b
		if err := a.dial(t, s.ClientURL()); err == nil {
			t.Fatal("what was requested is open")
		}
		b.Account = records.save(b.Account)
		k.active(t, b)
		if err := b.dial(t, s.ClientURL()); err == nil {
			t.Fatal("what a suspended key signed up for is open")
		}
	}
}
