package resolver

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
)

// record returns a random record of an adopted account.
func (w *claimsWorld) record(random *rand.Rand) *account.Account {
	a := &account.Account{ID: w.account, Adopted: true, State: account.Active, Revision: 1}
	for _, signer := range w.signers {
		if random.IntN(2) == 0 {
			a.Keys = append(a.Keys, account.SigningKey{Public: signer, Stage: account.Current})
		}
	}
	if random.IntN(2) == 0 {
		n := random.Int64N(10)
		a.Limits = &account.LimitsPatch{Connections: &n, Subscriptions: &n, JetStream: &account.JetStream{Disk: n}}
	}
	if random.IntN(4) == 0 {
		a.State = account.Deleting
	}
	return a
}

// What the record of an adopted account asks is there, unless a revocation asks otherwise; without it the claims are those
// that others made, and what others change meanwhile stays.
func TestRecordOfAdopted(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, w *claimsWorld, random *rand.Rand) {
		base, a, revoked := w.document(t, w.claims(random)), w.record(random), w.overlay(random)
		l := adopted{}
		l.take([]account.Account{*a}, true)
		wanted := map[string]overlay{w.account: revoked}
		lay(l.ask(), wanted)
		o := wanted[w.account]
		desired := o.apply(base)
		if !o.apply(desired).same(desired) {
			t.Error("applied twice it is something else")
		}
		got := w.decoded(t, desired)
		for _, k := range a.Keys {
			if _, gone := revoked[place{part: signingKey, name: k.Public}]; got.SigningKeys.Contains(k.Public) == gone {
				t.Errorf("signing key %s: there %t, revoked %t", k.Public, !gone, gone)
			}
		}
		_, suspended := revoked[place{part: limit, name: "conn"}]
		switch {
		case suspended || a.State == account.Deleting:
			if got.Limits.Conn != 0 {
				t.Errorf("closed, with %d connections", got.Limits.Conn)
			}
		case a.Limits != nil && got.Limits.Conn != *a.Limits.Connections:
			t.Errorf("%d connections, want %d", got.Limits.Conn, *a.Limits.Connections)
		}
		if a.Limits != nil && (got.Limits.Subs != *a.Limits.Subscriptions || got.Limits.DiskStorage != a.Limits.JetStream.Disk) {
			t.Errorf("limits %+v", got.Limits)
		}
		if again := rebase(base, desired, desired); !again.same(base) {
			t.Errorf("base %s, without the record %s", base.says(), again.says())
		}
		theirs := w.decoded(t, base)
		theirs.Tags.Add("theirs")
		next := w.decoded(t, o.apply(rebase(base, desired, w.document(t, theirs))))
		if !next.Tags.Contains("theirs") || !reflect.DeepEqual(next.Limits, got.Limits) || !reflect.DeepEqual(next.SigningKeys, got.SigningKeys) {
			t.Errorf("after a change of others %+v, before it %+v", next, got)
		}
	})
}

// A record counts as carried out only by an overlay that holds all that it asks, and the newest record counts.
func TestUnapplied(t *testing.T) {
	t.Parallel()
	w := newClaimsWorld(t)
	a := account.Account{ID: w.account, Adopted: true, State: account.Creating, Revision: 2, Keys: []account.SigningKey{{Public: w.signers[0]}}}
	l := adopted{}
	if !l.take([]account.Account{a}, false) {
		t.Error("a new record is no news")
	}
	old := a
	old.Revision, old.Keys = 1, nil
	if l.take([]account.Account{old}, false) {
		t.Error("an old record is news")
	}
	if _, ok := l.unapplied(a.ID, ownedOf(&old)); ok {
		t.Error("carried out by what the record before asks")
	}
	if _, ok := l.unapplied(a.ID, overlay{}); ok {
		t.Error("carried out by what nobody asks for it")
	}
	if revision, ok := l.unapplied(a.ID, ownedOf(&a)); !ok || revision != 2 {
		t.Errorf("revision %d, %t", revision, ok)
	}
	a.Applied = 2
	l.take([]account.Account{a}, false)
	if _, ok := l.unapplied(a.ID, ownedOf(&a)); ok {
		t.Error("noted twice")
	}
	a.State, a.Revision = account.Deleted, 3
	l.take([]account.Account{a}, false)
	if asked := l.ask(); len(asked) != 0 {
		t.Errorf("a deleted account asks for %v", asked)
	}
}
