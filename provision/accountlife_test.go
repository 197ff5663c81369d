package provision_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

func ptr[T any](v T) *T { return &v }

func reasonOf(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e.Reason
	}
	return ""
}

// Whoever is no member learns nothing of an account, and changes nothing; a member who is no owner sees it and changes nothing.
func TestForeignersChangeNothing(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	if _, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: "bobs", Plan: "free"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "carol"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.MemberAccept(t.Context(), caller("carol"), api.MemberAcceptRequest{Account: "orders"}); err != nil {
		t.Fatal(err)
	}
	before := b.get(t, "orders")
	members, err := b.MemberList(t.Context(), admin, api.MemberListRequest{Account: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"orders", before.Account} {
		for op, do := range map[string]func(c provision.Caller) error{
			api.OpAccountUpdate: func(c provision.Caller) error {
				_, err := b.AccountUpdate(t.Context(), c, api.AccountUpdateRequest{Account: ref, Revision: before.Revision, Description: ptr("mine")})
				return err
			},
			api.OpAccountRename: func(c provision.Caller) error {
				_, err := b.AccountRename(t.Context(), c, api.AccountRenameRequest{Account: ref, Revision: before.Revision, Name: "mine"})
				return err
			},
			api.OpAccountDelete: func(c provision.Caller) error {
				_, err := b.AccountDelete(t.Context(), c, api.AccountDeleteRequest{Account: ref, WithData: true})
				return err
			},
			"dry run of " + api.OpAccountDelete: func(c provision.Caller) error {
				_, err := b.AccountDelete(t.Context(), c, api.AccountDeleteRequest{Account: ref, DryRun: true})
				return err
			},
			api.OpAccountUndelete: func(c provision.Caller) error {
				_, err := b.AccountUndelete(t.Context(), c, api.AccountActRequest{Account: ref})
				return err
			},
			api.OpMemberAdd: func(c provision.Caller) error {
				_, err := b.MemberAdd(t.Context(), c, api.MemberAddRequest{Account: ref, Role: "owner", Issuer: "corp", Subject: "bob"})
				return err
			},
			api.OpMemberInvite: func(c provision.Caller) error {
				_, err := b.MemberInvite(t.Context(), c, api.MemberInviteRequest{Account: ref, Role: "owner"})
				return err
			},
			api.OpMemberRemove: func(c provision.Caller) error {
				_, err := b.MemberRemove(t.Context(), c, api.MemberRemoveRequest{Account: ref, ID: members.Members[0].ID})
				return err
			},
			api.OpMemberList: func(c provision.Caller) error {
				_, err := b.MemberList(t.Context(), c, api.MemberListRequest{Account: ref})
				return err
			},
			api.OpAccountSuspend: func(c provision.Caller) error {
				_, err := b.AccountSuspend(t.Context(), c, api.AccountSuspendRequest{Account: ref, Reason: "mine"})
				return err
			},
			api.OpAccountResume: func(c provision.Caller) error {
				_, err := b.AccountResume(t.Context(), c, api.AccountActRequest{Account: ref, Reason: "mine"})
				return err
			},
			api.OpAccountApprove: func(c provision.Caller) error {
				_, err := b.AccountApprove(t.Context(), c, api.AccountActRequest{Account: ref})
				return err
			},
			api.OpAccountReject: func(c provision.Caller) error {
				_, err := b.AccountReject(t.Context(), c, api.AccountActRequest{Account: ref, Reason: "mine"})
				return err
			},
			api.OpAccountRotate: func(c provision.Caller) error {
				_, err := b.AccountRotate(t.Context(), c, api.RotateRequest{Account: ref})
				return err
			},
			"dry run of " + api.OpAccountRotate: func(c provision.Caller) error {
				_, err := b.AccountRotate(t.Context(), c, api.RotateRequest{Account: ref, DryRun: true})
				return err
			},
			api.OpAccountExchangeSet: func(c provision.Caller) error {
				_, err := b.ExchangeSet(t.Context(), c, api.ExchangeSetRequest{Account: ref, Revision: before.Revision})
				return err
			},
			"dry run of " + api.OpAccountExchangeSet: func(c provision.Caller) error {
				_, err := b.ExchangeSet(t.Context(), c, api.ExchangeSetRequest{Account: ref, Revision: before.Revision, DryRun: true})
				return err
			},
			api.OpAccountExportAdd: func(c provision.Caller) error {
				_, err := b.ExportAdd(t.Context(), c, api.ExportAddRequest{Account: ref, Export: feed})
				return err
			},
			api.OpAccountExportRemove: func(c provision.Caller) error {
				_, err := b.ExportRemove(t.Context(), c, api.ExchangeRemoveRequest{Account: ref, Name: "feed"})
				return err
			},
			api.OpAccountImportAdd: func(c provision.Caller) error {
				_, err := b.ImportAdd(t.Context(), c, api.ImportAddRequest{Account: ref, Import: api.Import{Name: "a", Account: "bobs", Subject: "a", Type: "stream"}})
				return err
			},
			api.OpAccountImportRemove: func(c provision.Caller) error {
				_, err := b.ImportRemove(t.Context(), c, api.ExchangeRemoveRequest{Account: ref, Name: "a"})
				return err
			},
			api.OpAccountActivate: func(c provision.Caller) error {
				_, err := b.AccountActivate(t.Context(), c, api.ActivateRequest{Account: ref, Export: "feed", Importer: "bobs"})
				return err
			},
		} {
			if err := do(caller("bob")); reasonOf(err) != api.ReasonNotFound {
				t.Errorf("%s by the owner of another account: %v", op, err)
			}
			if err := do(caller("carol")); reasonOf(err) != api.ReasonForbidden {
				t.Errorf("%s by a member: %v", op, err)
			}
		}
	}
	if _, err := b.AccountGet(t.Context(), caller("bob"), api.AccountRequest{Account: "orders"}); reasonOf(err) != api.ReasonNotFound {
		t.Errorf("get by the owner of another account: %v", err)
	}
	if _, err := b.AccountGet(t.Context(), caller("carol"), api.AccountRequest{Account: "orders"}); err != nil {
		t.Errorf("get by a member: %v", err)
	}
	b.problems = map[string]string{before.Account: "servers take 4096 bytes"}
	for who, want := range map[*provision.Caller]string{&admin: b.problems[before.Account], ptr(caller("alice")): ""} {
		if a, err := b.AccountGet(t.Context(), *who, api.AccountRequest{Account: "orders"}); err != nil || a.Problem != want {
			t.Errorf("told of the problem %q, want %q: %v", a.Problem, want, err)
		}
	}
	if after := b.get(t, "orders"); after.Revision != before.Revision || after.State != "active" {
		t.Errorf("it was changed: %+v", after)
	}
	for subject, want := range map[string][]string{"alice": {"orders"}, "bob": {"bobs"}, "carol": {"orders"}, "dora": nil} {
		page, err := b.AccountList(t.Context(), caller(subject), api.AccountListRequest{})
		var names []string
		for _, a := range page.Accounts {
			names = append(names, a.Name)
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("%s lists %v, %v", subject, names, err)
		}
	}
	if _, err := b.AccountList(t.Context(), caller("bob"), api.AccountListRequest{Issuer: "corp", Subject: "alice"}); reasonOf(err) != api.ReasonForbidden {
		t.Errorf("others' accounts listed: %v", err)
	}
	// What was refused is in the trail, with who tried.
	refused := 0
	for _, e := range b.records.taken() {
		if e.Subject == "bob" && e.Outcome == "refused" {
			refused++
		}
	}
	if refused < 20 {
		t.Errorf("%d refused calls are recorded", refused)
	}
}

// Owners write what an account says; what it may is for admins.
func TestAccountUpdate(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	revision := b.get(t, "orders").Revision
	for name, req := range map[string]api.AccountUpdateRequest{
		"limits": {Limits: &api.LimitsChange{Connections: ptr(int64(-1))}}, "plan": {Plan: "team"}, "owner": {Owner: &api.Owner{Issuer: "corp", Subject: "bob"}},
	} {
		req.Account, req.Revision = "orders", revision
		if _, err := b.AccountUpdate(t.Context(), caller("alice"), req); reasonOf(err) != api.ReasonForbidden {
			t.Errorf("an owner changes the %s: %v", name, err)
		}
	}
	for name, l := range map[string]api.LimitsChange{
		"below nothing":         {Connections: ptr(int64(-2))},
		"leaf nodes beyond all": {LeafNodes: ptr(int64(30))},
		"both":                  {JetStream: &api.JetStreamChange{Disk: 1}, Tiers: map[string]api.JetStreamChange{"R1": {Disk: 1}}},
		"streams of nothing":    {JetStream: &api.JetStreamChange{Streams: 5}},
		"no tier":               {Tiers: map[string]api.JetStreamChange{"R9": {Disk: 1}}},
	} {
		if _, err := b.AccountUpdate(t.Context(), admin, api.AccountUpdateRequest{Account: "orders", Revision: revision, Limits: &l}); reasonOf(err) != api.ReasonBadRequest {
			t.Errorf("limits %s: %v", name, err)
		}
	}
	got, err := b.AccountUpdate(t.Context(), caller("alice"), api.AccountUpdateRequest{Account: "orders", Revision: revision, Description: ptr("all orders"), Tags: &[]string{"eu"}})
	if err != nil || got.Description != "all orders" || got.Revision != revision+1 {
		t.Fatalf("%+v, %v", got, err)
	}
	got, err = b.AccountUpdate(t.Context(), adminCaller("root"), api.AccountUpdateRequest{
		Account: "orders", Revision: got.Revision, Limits: &api.LimitsChange{Connections: ptr(int64(5))}, Owner: &api.Owner{Issuer: "corp", Subject: "bob"},
	})
	if err != nil || *got.Limits.Connections != 5 || *got.Limits.Subscriptions != account.NoLimit || got.Owner.Subject != "bob" || got.Owner.Name != "corp-bob" {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, owner := range []string{"alice", "bob"} {
		if _, err := b.MemberList(t.Context(), caller(owner), api.MemberListRequest{Account: "orders"}); err != nil {
			t.Errorf("%s is no owner: %v", owner, err)
		}
	}
	if got, err = b.AccountUpdate(t.Context(), admin, api.AccountUpdateRequest{Account: "orders", Revision: got.Revision, Limits: &api.LimitsChange{}}); err != nil || got.Changed != nil || *got.Limits.Connections != 20 {
		t.Errorf("back to the plan's: %+v, %v", got, err)
	}
}

// Two admins who have read the same: the second is told, and nothing of the first is overwritten.
func TestAdminsAtOnce(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	revision := b.get(t, "orders").Revision
	var done, changed atomic.Int32
	var group sync.WaitGroup
	for i := range 8 {
		who := adminCaller([]string{"root", "second"}[i%2])
		group.Go(func() {
			_, err := b.AccountUpdate(t.Context(), who, api.AccountUpdateRequest{Account: "orders", Revision: revision, Limits: &api.LimitsChange{Connections: ptr(int64(i))}})
			switch reasonOf(err) {
			case "":
				done.Add(1)
			case api.ReasonChanged:
				changed.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if done.Load() != 1 || changed.Load() != 7 || b.get(t, "orders").Revision != revision+1 {
		t.Errorf("%d done, %d changed", done.Load(), changed.Load())
	}
}

// The same call with the same idempotency key happens once; another call with it does not happen.
func TestAccountChangesHappenOnce(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	req := api.AccountUpdateRequest{Account: "orders", Revision: b.get(t, "orders").Revision, Description: ptr("one"), IdempotencyKey: "k"}
	first, err := b.AccountUpdate(t.Context(), caller("alice"), req)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.AccountUpdate(t.Context(), caller("alice"), req); err != nil || again.Revision != first.Revision {
		t.Errorf("%+v, %v", again, err)
	}
	req.Description = ptr("two")
	_, err = b.AccountUpdate(t.Context(), caller("alice"), req)
	wantError(t, err, http.StatusConflict, api.ReasonConflict)
	req.Revision = first.Revision
	if _, err := b.AccountUpdate(t.Context(), admin, req); err != nil {
		t.Errorf("another caller's key of the same text: %v", err)
	}
}

func TestAccountRename(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	if _, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: "bobs", Plan: "free"}); err != nil {
		t.Fatal(err)
	}
	revision := b.get(t, "orders").Revision
	for name, reason := range map[string]string{"BOBS": "name_taken", "ops": "name_reserved", "lobby": "name_reserved", "a/b": "name_invalid"} {
		if _, err := b.AccountRename(t.Context(), caller("alice"), api.AccountRenameRequest{Account: "orders", Revision: revision, Name: name}); reasonOf(err) != reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.AccountRename(t.Context(), caller("alice"), api.AccountRenameRequest{Account: "orders", Revision: revision, Name: "sales"}); err != nil {
		t.Fatal(err)
	}
	if b.login("alice", "orders").Allowed() || !b.login("alice", "sales").Allowed() {
		t.Error("decisions do not follow the name")
	}
}

func TestAccountSuspension(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	got, err := b.AccountSuspend(t.Context(), adminCaller("second"), api.AccountSuspendRequest{Account: "orders", Reason: "unpaid"})
	if err != nil || !got.Suspended {
		t.Fatalf("%+v, %v", got, err)
	}
	if d := b.login("alice", "orders"); d.Reason() != policy.AccountSuspended {
		t.Errorf("login: %v", d.Reason())
	}
	_, err = b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"})
	wantError(t, err, http.StatusForbidden, string(policy.AccountSuspended))
	if got, err = b.AccountResume(t.Context(), admin, api.AccountActRequest{Account: "orders", Reason: "paid"}); err != nil || got.Suspended {
		t.Fatalf("%+v, %v", got, err)
	}
	if d := b.login("alice", "orders"); !d.Allowed() {
		t.Errorf("login: %v", d.Reason())
	}
}

// What an operator asks of an account by its name or its id is all that was done to it, a page at a time.
func TestAuditOfAnAccount(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	key := userKey(t)
	if _, err := b.AccountSuspend(t.Context(), adminCaller("second"), api.AccountSuspendRequest{Account: "orders", Reason: "unpaid"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AccountResume(t.Context(), admin, api.AccountActRequest{Account: "orders", Reason: "paid"}); err != nil {
		t.Fatal(err)
	}
	for _, req := range []api.RevokeRequest{
		{Kind: "user_key", Target: api.Target{Account: "orders", Key: key}, Reason: "leaked"},
		{Kind: "user_key", Target: api.Target{Account: "APP", Key: key}, Reason: "another account"},
	} {
		if _, err := b.Revoke(t.Context(), admin, req); err != nil {
			t.Fatal(err)
		}
	}
	for _, account := range []string{"orders", id} {
		for _, order := range []string{"newest", "arrival"} {
			var reasons []string
			req := api.AuditRequest{Account: account, Kind: "admin", Order: order, Limit: 1}
			for range 20 {
				page, err := b.Audit(t.Context(), admin, req)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Entries {
					reasons = append(reasons, e.Reason)
				}
				if req.Cursor = page.Cursor; req.Cursor == "" {
					break
				}
			}
			for _, want := range []string{"unpaid", "paid", "leaked"} {
				if !slices.Contains(reasons, want) {
					t.Errorf("%s, %s: %q has no %q", account, order, reasons, want)
				}
			}
			if slices.Contains(reasons, "another account") {
				t.Errorf("%s, %s: %q", account, order, reasons)
			}
		}
	}
	if page, err := b.Audit(t.Context(), admin, api.AuditRequest{Account: "NOT-THERE"}); err != nil || len(page.Entries) != 0 {
		t.Errorf("an account that nobody knows: %+v, %v", page, err)
	}
}

func TestAccountDeletion(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	b.stored = provision.Stored{Streams: 2, Bytes: 4096}
	_, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: "orders"})
	wantError(t, err, http.StatusConflict, api.ReasonHasData)
	dry, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: "orders", DryRun: true})
	if err != nil || dry.Streams != 2 || dry.Bytes != 4096 || dry.Account.State != "active" {
		t.Fatalf("%+v, %v", dry, err)
	}
	_, err = b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: "orders", WithData: true, Grace: "0s"})
	wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
	// A suspension by an admin outlives a deletion that is taken back.
	if _, err := b.AccountSuspend(t.Context(), admin, api.AccountSuspendRequest{Account: "orders", Reason: "unpaid", Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: "orders", WithData: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: "orders", Plan: "free"}); reasonOf(err) != api.ReasonNameTaken {
		t.Errorf("the name during the grace: %v", err)
	}
	if _, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"}); reasonOf(err) != api.ReasonWrongState {
		t.Errorf("an invitation during the grace: %v", err)
	}
	back, err := b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: "orders"})
	if err != nil || back.State != "active" || !back.Suspended {
		t.Fatalf("%+v, %v", back, err)
	}
	if _, err := b.AccountResume(t.Context(), admin, api.AccountActRequest{Account: "orders", Reason: "paid"}); err != nil {
		t.Fatal(err)
	}
	if !b.login("alice", "orders").Allowed() {
		t.Error("it does not let in what it let in before")
	}
	gone, err := b.AccountDelete(t.Context(), caller("alice"), api.AccountDeleteRequest{Account: "orders", WithData: true})
	if err != nil || gone.Account.State != "deleting" || !gone.Account.Suspended || !gone.Account.DeleteAt.Equal(now.Add(7*24*time.Hour)) {
		t.Fatalf("%+v, %v", gone, err)
	}
	if b.login("alice", "orders").Allowed() {
		t.Error("somebody is let in")
	}
	// Nothing happens before the grace is over.
	if err := b.EndAccounts(t.Context()); err != nil || b.get(t, "orders").State != "deleting" {
		t.Errorf("%v", err)
	}
	b.at(now.Add(7*24*time.Hour + time.Second))
	if err := b.EndAccounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := b.get(t, id); a.State != "deleted" {
		t.Errorf("%+v", a)
	}
	_, err = b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: id})
	wantError(t, err, http.StatusConflict, api.ReasonWrongState)
	if keys, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{}); err != nil || len(keys) != 0 {
		t.Errorf("%d seeds are kept, %v", len(keys), err)
	}
	if again, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: "orders", Plan: "free"}); err != nil || again.Account == id {
		t.Errorf("%+v, %v", again, err)
	}
}

// A plan that is taken out of the configuration while accounts use it lets nobody in and loses nothing: another plan, or the same one
// put back, lets members in again.
func TestPlanIsRemovedWhileItIsUsed(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	rules := b.state.Load().Rules
	b.plans["big"], rules.Plans["big"] = b.plans["free"], rules.Plans["free"]
	delete(b.plans, "free")
	delete(rules.Plans, "free")
	if d := b.login("alice", "orders"); d.Allowed() {
		t.Error("let in under no plan")
	}
	before := b.get(t, "orders")
	ten := int64(10)
	_, err := b.AccountUpdate(t.Context(), admin, api.AccountUpdateRequest{Account: "orders", Revision: before.Revision, Limits: &api.LimitsChange{Connections: &ten}})
	if m := wantError(t, err, http.StatusBadRequest, api.ReasonPlanUnknown); !strings.Contains(m, "another plan") {
		t.Errorf("it says %s", m)
	}
	if _, err := b.AccountUpdate(t.Context(), admin, api.AccountUpdateRequest{Account: "orders", Revision: before.Revision, Plan: "big"}); err != nil {
		t.Fatal(err)
	}
	if d := b.login("alice", "orders"); !d.Allowed() {
		t.Errorf("under another plan: %s", d.Reason())
	}
}
