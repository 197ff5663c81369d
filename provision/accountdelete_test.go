package provision_test

import (
	"net/http"
	"slices"
	"strings"
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
			fraud := func(e store.AuditEntry) bool { return e.Reason == "fraud" }
			if page, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Op: api.OpRevoke}); err != nil || !slices.ContainsFunc(page, fraud) {
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

// What was just deleted without a grace is not left for the next look at all accounts, and never ends open.
func TestDeletionIsDue(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	if _, err := b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: "orders", Grace: "1m"}); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: "orders"})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	a := list[0]
	b.FollowDeleted([]account.Account{a}, false)
	if err := b.EndDue(t.Context()); err != nil || b.get(t, a.ID).State != "deleting" {
		t.Errorf("before its time: %s, %v", b.get(t, a.ID).State, err)
	}
	b.at(now.Add(time.Minute))
	if err := b.EndDue(t.Context()); err != nil || b.get(t, a.ID).State != "deleted" {
		t.Errorf("at its time: %s, %v", b.get(t, a.ID).State, err)
	}
	if list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.Suspension, InForceAt: b.Now()}); err != nil || len(list) != 1 || list[0].ID != a.Closing {
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

// What keeps everybody out of an account that is being deleted goes with the deletion, and not alone.
func TestSuspensionOfADeletionIsNotLifted(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	if _, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: id}); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.Suspension, InForceAt: now})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	lift := api.LiftRequest{ID: list[0].ID, Reason: "paid"}
	_, err = b.Lift(t.Context(), admin, lift)
	if m := wantError(t, err, http.StatusConflict, api.ReasonWrongState); !strings.Contains(m, "gatehouse account undelete orders") {
		t.Errorf("it says %s", m)
	}
	if got := b.get(t, id); !got.Suspended {
		t.Errorf("%+v", got)
	}
	b.at(now.Add(8 * 24 * time.Hour))
	if err := b.EndAccounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lift(t.Context(), admin, lift); err != nil {
		t.Errorf("once it is gone: %v", err)
	}
}

// A request that nobody approved leaves no seed behind when it is taken back.
func TestRequestedAccountIsDeletedWithItsSeeds(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	if _, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "team-a", Plan: "team"}); err != nil {
		t.Fatal(err)
	}
	gone, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: "team-a"})
	if err != nil || gone.Account.State != "deleted" {
		t.Fatalf("%+v, %v", gone, err)
	}
	if keys, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{}); err != nil || len(keys) != 0 {
		t.Errorf("%d seeds are kept, %v", len(keys), err)
	}
}
