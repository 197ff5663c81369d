package provision_test

import (
	"net/http"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Who is about to be removed cannot leave a way back open: what they have offered and nobody has taken ends with their rights.
func TestOffersEndWithTheirOwner(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, b *accountBed, id string){
		"removed": func(t *testing.T, b *accountBed, id string) {
			if _, err := b.MemberRemove(t.Context(), caller("bob"), api.MemberRemoveRequest{Account: "orders", ID: id}); err != nil {
				t.Fatal(err)
			}
		},
		"blocked": func(t *testing.T, b *accountBed, _ string) {
			if _, err := b.Revoke(t.Context(), admin, api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "alice"}, Reason: "left"}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newAccountBed(t)
			b.orders(t)
			add := func(as provision.Caller, subject string) {
				t.Helper()
				if _, err := b.MemberAdd(t.Context(), as, api.MemberAddRequest{Account: "orders", Role: "owner", Issuer: "corp", Subject: subject}); err != nil {
					t.Fatal(err)
				}
			}
			invite := func(as provision.Caller) string {
				t.Helper()
				made, err := b.MemberInvite(t.Context(), as, api.MemberInviteRequest{Account: "orders", Role: "owner"})
				if err != nil {
					t.Fatal(err)
				}
				return made.Secret
			}
			add(caller("alice"), "bob")
			if err := b.accept("bob", ""); err != nil {
				t.Fatal(err)
			}
			before, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: "orders"})
			if err != nil {
				t.Fatal(err)
			}
			back, bobs, admins := invite(caller("alice")), invite(caller("bob")), invite(admin)
			add(caller("alice"), "second")
			end(t, b, before[0].Members[0].ID)
			for who, secret := range map[string]string{"third": back, "second": ""} {
				if err := b.accept(who, secret); reasonOf(err) != api.ReasonInvitationInvalid {
					t.Errorf("%s takes what alice has offered: %v", who, err)
				}
			}
			add(caller("bob"), "second")
			if err := b.accept("second", ""); err != nil {
				t.Errorf("offered anew by bob: %v", err)
			}
			for who, secret := range map[string]string{"fourth": bobs, "fifth": admins} {
				if err := b.accept(who, secret); err != nil {
					t.Errorf("%s: %v", who, err)
				}
			}
		})
	}
}

// Two who hand each other accounts get no more than the plan lets each have; an admin may give more.
func TestHandedOverAccountsAreCounted(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	for _, name := range []string{"bobs-1", "bobs-2"} {
		if _, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: name, Plan: "free"}); err != nil {
			t.Fatal(err)
		}
	}
	b.orders(t)
	if _, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "owner", Issuer: "corp", Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	if err := b.accept("bob", ""); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	leave := func(as provision.Caller) error {
		_, err := b.MemberRemove(t.Context(), as, api.MemberRemoveRequest{Account: "orders", ID: list[0].Members[0].ID})
		return err
	}
	wantError(t, leave(caller("alice")), http.StatusConflict, api.ReasonQuotaExceeded)
	wantError(t, leave(caller("bob")), http.StatusConflict, api.ReasonQuotaExceeded)
	if a := b.get(t, "orders"); a.Owner.Subject != "alice" {
		t.Errorf("the owner is %+v", a.Owner)
	}
	if err := leave(admin); err != nil {
		t.Fatal(err)
	}
	if a := b.get(t, "orders"); a.Owner.Subject != "bob" {
		t.Errorf("the owner is %+v", a.Owner)
	}
}
