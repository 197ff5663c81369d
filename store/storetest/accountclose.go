package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

func suspension(account string) store.Revocation {
	r := block("")
	r.Kind, r.Target = policy.Suspension, policy.Target{Account: account}
	return r
}

// inForce returns the ids of the suspensions that hold by the list and by the state, which say the same.
func inForce(t *testing.T, s store.Store) []string {
	t.Helper()
	list, err := allRevocations(t.Context(), s, store.RevocationFilter{Kind: policy.Suspension, InForceAt: base})
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	for _, r := range load(t, s).Revocations {
		loaded = append(loaded, r.ID)
	}
	ids := revocationIDs(list)
	slices.Sort(ids)
	slices.Sort(loaded)
	if !slices.Equal(ids, loaded) {
		t.Errorf("listed are %v, and loaded %v", ids, loaded)
	}
	return ids
}

// A record brings its suspension along, which stands for no other and goes with the record that lifts it.
func testClosedWithRecord(t *testing.T, s store.Store) {
	saveAccount(t, s, created("orders", "alice"))
	asked := revoke(t, s, suspension("Aorders"))
	before := load(t, s).Position

	closing := suspension("Aorders")
	c := edited(t, s, "Aorders")
	c.Account.State, c.Account.Closing, c.Close = account.Deleting, closing.ID, &closing
	saveAccount(t, s, c)
	changes, after, err := s.Changes(t.Context(), before, 10)
	if err != nil || len(changes) != 2 || changes[0].Revocation.Revocation.ID != closing.ID || changes[1].Account == nil || changes[1].Account.State != account.Deleting {
		t.Errorf("the feed says %+v, %v", changes, err)
	}
	list, err := allRevocations(t.Context(), s, store.RevocationFilter{ID: closing.ID})
	if err != nil || len(list) != 1 || list[0].Position != (store.Position{Epoch: before.Epoch, Seq: before.Seq + 1}) {
		t.Errorf("the suspension is kept as %+v, %v", list, err)
	}
	if got := inForce(t, s); !slices.Equal(got, sorted(asked.ID, closing.ID)) {
		t.Errorf("in force are %v", got)
	}

	lift(t, s, asked.ID)
	again, existing, err := s.Revoke(t.Context(), suspension("Aorders"), "")
	if err != nil || existing {
		t.Errorf("a suspension is answered by that of the deletion: %+v, %v", again, err)
	}
	if _, existing, err := s.Revoke(t.Context(), suspension("Aorders"), ""); err != nil || !existing {
		t.Errorf("an equal one is stored beside it: %v", err)
	}

	back := edited(t, s, "Aorders")
	back.Account.State, back.Account.Closing = account.Creating, ""
	back.Lifts = []store.Lift{{ID: closing.ID, At: base, Actor: "alice", Note: "taken back"}, {ID: asked.ID, At: base}, {ID: newID(), At: base}}
	saveAccount(t, s, back)
	if got := inForce(t, s); !slices.Equal(got, []string{again.ID}) {
		t.Errorf("in force are %v, and not %s alone", got, again.ID)
	}
	changes, _, err = s.Changes(t.Context(), after, 10)
	lifted := slices.IndexFunc(changes, func(c store.Change) bool { return c.Revocation.Lifted && c.Revocation.Revocation.ID == closing.ID })
	if err != nil || lifted < 0 || changes[len(changes)-1].Account == nil {
		t.Errorf("the feed says %+v, %v", changes, err)
	}
	trail, err := allAudit(t.Context(), s, store.AuditFilter{Op: "revoke.lift"})
	if err != nil || !slices.ContainsFunc(trail, func(e store.AuditEntry) bool { return e.Actor == "alice" && e.Reason == "taken back" }) {
		t.Errorf("the trail says %+v, %v", trail, err)
	}
}

func sorted(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }

// A change that is refused, or was made before, leaves the revocations as they are.
func testNothingOfARefusedChange(t *testing.T, s store.Store) {
	saveAccount(t, s, created("orders", "alice"))
	stands := revoke(t, s, suspension("Aorders"))
	late := edited(t, s, "Aorders")
	saveAccount(t, s, edited(t, s, "Aorders"))
	closing := suspension("Aorders")
	late.Close, late.Lifts = &closing, []store.Lift{{ID: stands.ID, At: base, Actor: "root"}}
	if _, err := s.SaveAccount(t.Context(), late); !errors.Is(err, store.ErrChanged) {
		t.Errorf("a change of what was changed: %v", err)
	}
	if got := inForce(t, s); !slices.Equal(got, []string{stands.ID}) {
		t.Errorf("after a change that was refused: %v", got)
	}
	again := edited(t, s, "Aorders")
	again.Once = &store.Once{Key: "k", Call: call("close"), Answer: []byte(`{}`)}
	saveAccount(t, s, again)
	again.Close, again.Lifts = late.Close, late.Lifts
	if first, err := s.SaveAccount(t.Context(), again); err != nil || first == nil {
		t.Errorf("the same call again: %s, %v", first, err)
	}
	if got := inForce(t, s); !slices.Equal(got, []string{stands.ID}) {
		t.Errorf("after a call that was made before: %v", got)
	}
}
