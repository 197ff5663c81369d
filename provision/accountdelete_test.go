package provision_test

import (
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// An owner does not undo what an admin did while the account was being deleted, although the deletion has closed it already.
func TestSuspensionOutlastsDeletion(t *testing.T) {
	t.Parallel()
	for name, suspend := range map[string]func(b *accountBed, id string) error{
		"account suspend": func(b *accountBed, id string) error {
			_, err := b.AccountSuspend(t.Context(), admin, api.AccountSuspendRequest{Account: id, Reason: "fraud"})
			return err
		},
		"revoke": func(b *accountBed, id string) error {
			_, err := b.Revoke(t.Context(), admin, api.RevokeRequest{Kind: string(policy.Suspension), Target: api.Target{Account: id}, Reason: "fraud"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAccountBed(t)
			id := b.orders(t).Account
			if _, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: id}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := suspend(b, id); err != nil {
					t.Fatal(err)
				}
			}
			back, err := b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: id})
			if err != nil || !back.Suspended {
				t.Fatalf("%+v, %v", back, err)
			}
			if d := b.login("alice", "orders"); d.Reason() != policy.AccountSuspended {
				t.Errorf("login: %v", d.Reason())
			}
			if page, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Op: api.OpAccountSuspend}); err != nil || len(page) != 1 || page[0].Reason != "fraud" {
				t.Errorf("the trail says %+v, %v", page, err)
			}
			if _, err := b.AccountResume(t.Context(), admin, api.AccountActRequest{Account: id, Reason: "cleared"}); err != nil {
				t.Fatal(err)
			}
			if d := b.login("alice", "orders"); !d.Allowed() {
				t.Errorf("login: %v", d.Reason())
			}
		})
	}
}

// Who takes a deletion back may be interrupted once the account is open on the servers: it is closed again, others are ended
// meanwhile, and it can still be had back.
// What was just deleted without a grace is not left for the next look at all accounts, and never ends open.
func TestDeletionIsDue(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: "orders"})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	a := list[0]
	a.State, a.Revision, a.DeleteAt, a.Closing = account.Deleting, a.Revision+1, now.Add(time.Minute), "01970000-0000-7000-8000-00000000000c"
	if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: a, Entry: store.AuditEntry{ID: "01970000-0000-7000-8000-00000000000d", At: now, Kind: store.AdminEntry, Op: api.OpAccountDelete, Outcome: "done"}}); err != nil {
		t.Fatal(err)
	}
	b.FollowDeleted([]account.Account{a}, false)
	if err := b.EndDue(t.Context()); err != nil || b.get(t, a.ID).State != "deleting" {
		t.Errorf("before its time: %s, %v", b.get(t, a.ID).State, err)
	}
	b.at(now.Add(time.Minute))
	if err := b.EndDue(t.Context()); err != nil || b.get(t, a.ID).State != "deleted" {
		t.Errorf("at its time: %s, %v", b.get(t, a.ID).State, err)
	}
	if list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.Suspension}); err != nil || len(list) != 1 || list[0].ID != a.Closing {
		t.Errorf("who was in it: %+v, %v", list, err)
	}
	// One that was taken back is left alone, though nobody has said so yet.
	b.orders(t)
	if _, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: "orders"}); err != nil {
		t.Fatal(err)
	}
	list, _, err = b.Store.Accounts(t.Context(), store.AccountFilter{Name: "orders"})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	b.FollowDeleted(list, true)
	if _, err := b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: "orders"}); err != nil {
		t.Fatal(err)
	}
	b.at(now.Add(8 * 24 * time.Hour))
	if err := b.EndDue(t.Context()); err != nil || b.get(t, "orders").State != "active" {
		t.Errorf("taken back: %s, %v", b.get(t, "orders").State, err)
	}
}

func TestInterruptedUndeletionIsClosed(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	if _, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: id}); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{State: account.Deleting})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := b.Store.Lift(t.Context(), store.Lift{ID: list[0].Closing, At: now, Actor: "alice"}); err != nil {
		t.Fatal(err)
	}
	if err := b.refresh(t.Context(), b.Store); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.EndAccounts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if inForce, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.Suspension, InForceAt: now.Add(time.Second)}); err != nil || len(inForce) != 1 {
		t.Errorf("%+v, %v", inForce, err)
	}
	if back, err := b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: id}); err != nil || back.Suspended {
		t.Errorf("%+v, %v", back, err)
	}
	if d := b.login("alice", "orders"); !d.Allowed() {
		t.Errorf("login: %v", d.Reason())
	}
}
