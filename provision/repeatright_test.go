package provision_test

import (
	"net/http"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// keyedCalls are the calls of an owner of orders with a key, each with an answer that is kept, and what they say it is about.
func keyedCalls(t *testing.T, b *accountBed, member string, revision int64) map[string]func(provision.Caller) (any, error) {
	t.Helper()
	return map[string]func(provision.Caller) (any, error){
		api.OpMemberAdd: func(c provision.Caller) (any, error) {
			return b.MemberAdd(t.Context(), c, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "dora", IdempotencyKey: "k"})
		},
		api.OpMemberRemove: func(c provision.Caller) (any, error) {
			return b.MemberRemove(t.Context(), c, api.MemberRemoveRequest{Account: "orders", ID: member, IdempotencyKey: "k"})
		},
		api.OpMemberInvite: func(c provision.Caller) (any, error) {
			return b.MemberInvite(t.Context(), c, api.MemberInviteRequest{Account: "orders", Role: "app", IdempotencyKey: "k"})
		},
		api.OpAccountActivate: func(c provision.Caller) (any, error) {
			return b.AccountActivate(t.Context(), c, api.ActivateRequest{Account: "orders", Export: private.Name, Importer: "shop", IdempotencyKey: "k"})
		},
		api.OpAccountUpdate: func(c provision.Caller) (any, error) {
			return b.AccountUpdate(t.Context(), c, api.AccountUpdateRequest{Account: "orders", Revision: revision, Description: ptr("all"), IdempotencyKey: "k"})
		},
		api.OpAccountRotate: func(c provision.Caller) (any, error) {
			return b.AccountRotate(t.Context(), c, api.RotateRequest{Account: "orders", IdempotencyKey: "k"})
		},
	}
}

// What a call with a key was answered is for who may make it still, also where somebody is a member yet, and where the name is
// that of an account of theirs by then.
func TestKeptAnswersAreForWhoMayStill(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"nothing", "a role"} {
		for op := range keyedCalls(t, nil, "", 0) {
			t.Run(op+" of who has "+left, func(t *testing.T) {
				t.Parallel()
				b, _ := newTradeBed(t)
				if _, err := b.ExportAdd(t.Context(), caller("alice"), api.ExportAddRequest{Account: "orders", Export: private}); err != nil {
					t.Fatal(err)
				}
				add := func(role, subject string) string {
					t.Helper()
					m, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: role, Issuer: "corp", Subject: subject})
					if err == nil {
						err = b.accept(subject, "")
					}
					if err != nil {
						t.Fatal(err)
					}
					return m.ID
				}
				owner, carol := add("owner", "bob"), add("app", "carol")
				call := keyedCalls(t, b, carol, b.get(t, "orders").Revision)[op]
				if _, err := call(caller("bob")); err != nil {
					t.Fatal(err)
				}
				want, code := api.ReasonNotFound, http.StatusNotFound
				if left == "a role" {
					want, code = api.ReasonForbidden, http.StatusForbidden
					add("app", "bob")
				}
				if _, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: owner}); err != nil {
					t.Fatal(err)
				}
				_, err := call(caller("bob"))
				wantError(t, err, code, want)

				if _, err := b.AccountRename(t.Context(), caller("alice"), api.AccountRenameRequest{Account: "orders", Revision: b.get(t, "orders").Revision, Name: "sales"}); err != nil {
					t.Fatal(err)
				}
				if _, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: "orders", Plan: "free"}); err != nil {
					t.Fatal(err)
				}
				_, err = call(caller("bob"))
				wantError(t, err, code, want)
			})
		}
	}
}

// Who has accepted and was removed since is told what everybody is.
func TestKeptMembershipIsForMembers(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	if _, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	accept := api.MemberAcceptRequest{Account: "orders", IdempotencyKey: "k"}
	member, err := b.MemberAccept(t.Context(), caller("bob"), accept)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: member.Members[0].ID}); err != nil {
		t.Fatal(err)
	}
	_, err = b.MemberAccept(t.Context(), caller("bob"), accept)
	wantError(t, err, http.StatusNotFound, api.ReasonNotFound)
}

// Whose rights of an admin were taken away is answered as who never had any, though a call of theirs with that key was carried out.
func TestKeptAnswersAreForAdminsStill(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	if _, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "second"}); err != nil {
		t.Fatal(err)
	}
	if err := b.accept("second", ""); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(provision.Caller) error{
		api.OpAccountUpdate: func(c provision.Caller) error {
			_, err := b.AccountUpdate(t.Context(), c, api.AccountUpdateRequest{Account: "orders", Revision: 3, Limits: &api.LimitsChange{Connections: ptr(int64(3))}, IdempotencyKey: "update"})
			return err
		},
		api.OpAccountSuspend: func(c provision.Caller) error {
			_, err := b.AccountSuspend(t.Context(), c, api.AccountSuspendRequest{Account: "orders", Reason: "unpaid", IdempotencyKey: "suspend"})
			return err
		},
		api.OpAccountResume: func(c provision.Caller) error {
			_, err := b.AccountResume(t.Context(), c, api.AccountActRequest{Account: "orders", Reason: "paid", IdempotencyKey: "resume"})
			return err
		},
		api.OpMemberInvite: func(c provision.Caller) error {
			_, err := b.MemberInvite(t.Context(), c, api.MemberInviteRequest{Account: "orders", Role: "app", IdempotencyKey: "invite"})
			return err
		},
	}
	for _, op := range []string{api.OpAccountUpdate, api.OpAccountSuspend, api.OpAccountResume, api.OpMemberInvite} {
		if err := calls[op](adminCaller("second")); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	for op, call := range calls {
		if err := call(caller("second")); reasonOf(err) != api.ReasonForbidden {
			t.Errorf("%s of a member: %v", op, err)
		}
		if err := call(adminCaller("auditor")); reasonOf(err) != api.ReasonForbidden {
			t.Errorf("%s of another admin: %v", op, err)
		}
	}
	if d := b.login("alice", "orders"); d.Reason() != policy.Allowed {
		t.Errorf("login: %s", d.Reason())
	}
}

// No text of a caller's own makes their key another's.
func TestKeysOfCallersAreApart(t *testing.T) {
	t.Parallel()
	servers := &connected{list: sessions()}
	b := newBed(t, func(o *provision.Options) { o.Servers = servers })
	req := api.KickRequest{SessionsRequest: api.SessionsRequest{Name: "corp-bob"}, Reason: "stuck", IdempotencyKey: "b\x00k"}
	first, second := admin, admin
	first.Actor, second.Actor = "local:a", "local:a\x00b"
	if _, err := b.Kick(t.Context(), first, req); err != nil {
		t.Fatal(err)
	}
	servers.closed = nil
	req.IdempotencyKey = "k"
	if got, err := b.Kick(t.Context(), second, req); err != nil || got.Closed != 1 || len(servers.closed) != 1 {
		t.Errorf("%+v, %v: closed %v", got, err, servers.closed)
	}
}

// Whom somebody removes while they are added has to accept again, and a call that is repeated later does not say that they are there.
func TestAddedAndRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	m := &meeting{}
	b := newAccountBed(t, func(o *provision.Options) { m.Store, o.Store = o.Store, m })
	b.orders(t)
	req := api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob"}
	first, err := b.MemberAdd(t.Context(), caller("alice"), req)
	if err == nil {
		err = b.accept("bob", "")
	}
	if err != nil {
		t.Fatal(err)
	}
	remove := func(id string) {
		if _, err := b.MemberRemove(t.Context(), admin, api.MemberRemoveRequest{Account: "orders", ID: id}); err != nil {
			t.Error(err)
		}
	}
	m.at("before save", func() { remove(first.ID) })
	req.IdempotencyKey = "k"
	again, err := b.MemberAdd(t.Context(), caller("alice"), req)
	if err != nil || again.State != "added" || again.ID == first.ID {
		t.Errorf("%+v, %v", again, err)
	}
	if b.login("bob", "orders").Allowed() {
		t.Error("bob is let in without having accepted")
	}
	if same, err := b.MemberAdd(t.Context(), caller("alice"), req); err != nil || same.ID != again.ID {
		t.Errorf("the same call: %+v, %v", same, err)
	}
	remove(again.ID)
	_, err = b.MemberAdd(t.Context(), caller("alice"), req)
	wantError(t, err, http.StatusNotFound, api.ReasonNotFound)
}
