package provision_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// unkeyed are the operations that take no idempotency key: those that change nothing, and those that the same call leaves as they are.
var unkeyed = []string{
	api.OpWhoami, api.OpAccountGet, api.OpAccountList, api.OpKeysList, api.OpAccountExchange, api.OpAccountGraph, api.OpAccountHandover, api.OpAccountPreload, api.OpMemberList,
	api.OpExplain, api.OpProgress, api.OpRevocations, api.OpIdentities, api.OpSessions, api.OpAudit, api.OpStatus,
	// The same key and the same name are the same user and the same account; what is sealed anew, kept, deleted and loaded is so afterwards.
	api.OpUserSignup, api.OpAccountSignup, api.OpKeysReseal, api.OpReload,
	api.OpOperatorKey, api.OpOperatorKeyImport, api.OpOperatorKeyRemove,
}

func TestChangesTakeAnIdempotencyKey(t *testing.T) {
	t.Parallel()
	d := document(t)
	for _, op := range operations(t) {
		body := d.part("paths", api.Path(op), "post", "requestBody", "content", "application/json", "schema")
		reference, _ := body["$ref"].(string)
		parts := append(strings.Split(strings.TrimPrefix(reference, "#/"), "/"), "properties", "idempotency_key")
		if without := slices.Contains(unkeyed, op); (d.part(parts...) == nil) != without {
			t.Errorf("%s: that it takes no key is not %t", op, without)
		}
	}
}

// answers keeps what a service has a store remember, and lets that fail.
type answers struct {
	store.Store
	mu   sync.Mutex
	kept []string
	fail error // of the answer, not of the beginning
}

func (a *answers) Remember(ctx context.Context, o store.Once, before json.RawMessage) (json.RawMessage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept = append(a.kept, string(o.Answer)); before != nil && a.fail != nil {
		return nil, a.fail
	}
	return a.Store.Remember(ctx, o, before)
}

func withAnswers(a *answers) func(*provision.Options) {
	return func(o *provision.Options) { a.Store, o.Store = o.Store, a }
}

// twice makes a call twice with a key. What it did the first time is taken back between, so that doing it again would show; both
// answers are the same.
func twice[Req, Resp any](t *testing.T, op string, do func(context.Context, provision.Caller, Req) (Resp, error), c provision.Caller, req, other Req, between func()) Resp {
	t.Helper()
	first, err := do(t.Context(), c, req)
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	between()
	again, err := do(t.Context(), c, req)
	if err != nil {
		t.Fatalf("%s again: %v", op, err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("%s: the first answer is not given again (-first +again):\n%s", op, diff)
	}
	_, err = do(t.Context(), c, other)
	wantError(t, err, http.StatusConflict, api.ReasonConflict)
	return again
}

func TestKickHappensOnce(t *testing.T) {
	t.Parallel()
	servers := &connected{list: sessions(), unanswered: []string{"n3"}}
	b := newBed(t, func(o *provision.Options) { o.Servers = servers })
	req := api.KickRequest{SessionsRequest: api.SessionsRequest{Name: "corp-bob"}, Reason: "stuck", IdempotencyKey: "k"}
	other := req
	other.Reason = "other"
	got := twice(t, api.OpKick, b.Kick, admin, req, other, func() { servers.closed = nil })
	if got.Closed != 1 || got.Found != 1 || !slices.Equal(got.Unanswered, []string{"n3"}) || len(servers.closed) != 0 {
		t.Errorf("got %+v, closed %v again", got, servers.closed)
	}
	// Another's key is another one, and a dry run takes none up.
	second := admin
	second.Actor = "local:second"
	dry := req
	dry.DryRun = true
	for _, c := range []provision.Caller{admin, second} {
		if got, err := b.Kick(t.Context(), c, dry); err != nil || got.Found != 1 || got.Closed != 0 {
			t.Errorf("dry run: %+v, %v", got, err)
		}
	}
	if got, err := b.Kick(t.Context(), second, req); err != nil || got.Closed != 1 || len(servers.closed) != 1 {
		t.Errorf("of another caller: %+v, %v", got, err)
	}
	req.IdempotencyKey = strings.Repeat("k", 129)
	_, err := b.Kick(t.Context(), admin, req)
	wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
}

// A call that fails may be sent again; one whose end nobody knows is not done again.
func TestKeyOfACallThatEndsBadly(t *testing.T) {
	t.Parallel()
	kept := &answers{}
	servers := &connected{list: sessions(), err: errors.New("timeout")}
	b := newBed(t, withAnswers(kept), func(o *provision.Options) { o.Servers = servers })
	req := api.KickRequest{SessionsRequest: api.SessionsRequest{Name: "corp-bob"}, Reason: "stuck", IdempotencyKey: "k"}
	if _, err := b.Kick(t.Context(), admin, req); err == nil {
		t.Fatal("closed, though no server answers")
	}
	servers.err = nil
	if got, err := b.Kick(t.Context(), admin, req); err != nil || got.Closed != 1 {
		t.Errorf("after a failure: %+v, %v", got, err)
	}

	req.IdempotencyKey, kept.fail, servers.closed = "interrupted", store.ErrUnavailable, nil
	if got, err := b.Kick(t.Context(), admin, req); err != nil || got.Closed != 1 {
		t.Errorf("while the answer cannot be kept: %+v, %v", got, err)
	}
	kept.fail, servers.closed = nil, nil
	_, err := b.Kick(t.Context(), admin, req)
	if m := wantError(t, err, http.StatusConflict, api.ReasonUnfinished); !strings.Contains(m, "use a new key") || len(servers.closed) != 0 {
		t.Errorf("it says %q, and closed %v", m, servers.closed)
	}
}

// What a key was used for is not undone by the same call coming late.
func TestLateCallsUndoNothing(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	root := adminCaller("root")

	mallory := api.Target{Issuer: "corp", Subject: "mallory"}
	b.revoke(t, api.RevokeRequest{Target: mallory})
	lift := api.LiftRequest{Issuer: "corp", Subject: "mallory", Reason: "back", IdempotencyKey: "lift"}
	other := lift
	other.Reason = "other"
	twice(t, api.OpRevokeLift, b.Lift, admin, lift, other, func() { b.revoke(t, api.RevokeRequest{Target: mallory}) })
	if page, err := b.Revocations(t.Context(), admin, api.RevocationsRequest{Subject: "mallory", Issuer: "corp"}); err != nil || len(page.Revocations) != 1 {
		t.Errorf("the block since then: %+v, %v", page, err)
	}

	suspend := api.AccountSuspendRequest{Account: "orders", Reason: "unpaid", IdempotencyKey: "suspend"}
	resume := api.AccountActRequest{Account: "orders", Reason: "paid", IdempotencyKey: "resume"}
	must := func(_ api.Account, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	suspended := func(want bool) {
		t.Helper()
		if got := b.get(t, "orders").Suspended; got != want {
			t.Errorf("suspended: %t", got)
		}
	}
	must(b.AccountSuspend(t.Context(), root, suspend))
	must(b.AccountResume(t.Context(), root, resume))
	must(b.AccountSuspend(t.Context(), root, suspend)) // came late
	suspended(false)
	must(b.AccountSuspend(t.Context(), root, api.AccountSuspendRequest{Account: "orders", Reason: "unpaid again"}))
	must(b.AccountResume(t.Context(), root, resume))
	suspended(true)
	must(b.AccountResume(t.Context(), root, api.AccountActRequest{Account: "orders", Reason: "paid", IdempotencyKey: "resume 2"}))
	suspended(false)
}

func TestMembershipsHappenOnce(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	alice, nothing := caller("alice"), func() {}
	if _, err := b.MemberAdd(t.Context(), alice, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	accept := api.MemberAcceptRequest{Account: "orders", IdempotencyKey: "k"}
	member := twice(t, api.OpMemberAccept, b.MemberAccept, caller("bob"), accept, api.MemberAcceptRequest{Account: "shop", IdempotencyKey: "k"}, nothing)
	remove := api.MemberRemoveRequest{Account: "orders", ID: member.Members[0].ID, IdempotencyKey: "k"}
	twice(t, api.OpMemberRemove, b.MemberRemove, alice, remove, api.MemberRemoveRequest{Account: "orders", ID: "1", IdempotencyKey: "k"}, nothing)
	if b.login("bob", "orders").Allowed() {
		t.Error("bob is let in")
	}
}

// A secret is kept nowhere: the second call is told what the first has made, and how to go on.
func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	kept := &answers{}
	b := newAccountBed(t, withAnswers(kept), func(o *provision.Options) { o.Signer = newKey(t) })
	b.orders(t)

	req := api.AdminTokenRequest{Rights: []string{"revoke"}, Reason: "the provider is down", IdempotencyKey: "k"}
	made := b.adminToken(t, req)
	if made.Token == "" {
		t.Fatal("the first call shows no token")
	}
	before := len(b.records.taken())
	_, err := b.MakeAdminToken(t.Context(), admin, req)
	if m := wantError(t, err, http.StatusConflict, api.ReasonShownOnce); !strings.Contains(m, made.ID) || !strings.Contains(m, "with a new key") || strings.Contains(m, made.Token) {
		t.Errorf("it says %q", m)
	}
	if n := len(b.records.taken()); before == 0 || n != 0 {
		t.Errorf("%d entries of the first call, and %d of the second", before, n)
	}
	req.IdempotencyKey = "another"
	if again := b.adminToken(t, req); again.ID == made.ID {
		t.Error("another key gives the same token")
	}

	invite := api.MemberInviteRequest{Account: "orders", Role: "app", IdempotencyKey: "k"}
	invited, err := b.MemberInvite(t.Context(), caller("alice"), invite)
	if err != nil || invited.Secret == "" {
		t.Fatalf("%+v, %v", invited, err)
	}
	_, err = b.MemberInvite(t.Context(), caller("alice"), invite)
	if m := wantError(t, err, http.StatusConflict, api.ReasonShownOnce); !strings.Contains(m, invited.Member.ID) {
		t.Errorf("it says %q", m)
	}
	if got := b.get(t, "orders").Members; got != 3 {
		t.Errorf("%d members", got)
	}
	if all := strings.Join(kept.kept, "\n"); !strings.Contains(all, made.ID) || !strings.Contains(all, invited.Member.ID) ||
		strings.Contains(all, made.Token) || strings.Contains(all, invited.Secret) {
		t.Errorf("kept are\n%s", all)
	}
	if d := b.login("bob", "orders"); d.Reason() == policy.Allowed {
		t.Error("bob is let in")
	}
}

func TestActivationsHappenOnce(t *testing.T) {
	t.Parallel()
	b, _ := newTradeBed(t)
	if _, err := b.ExportAdd(t.Context(), caller("alice"), api.ExportAddRequest{Account: "orders", Export: private}); err != nil {
		t.Fatal(err)
	}
	req := api.ActivateRequest{Account: "orders", Export: private.Name, Importer: "shop", IdempotencyKey: "k"}
	other := req
	other.Export = "other"
	var made int64
	got := twice(t, api.OpAccountActivate, b.AccountActivate, caller("alice"), req, other, func() { made = b.get(t, "orders").Revision })
	if got.Token == "" || b.get(t, "orders").Revision != made {
		t.Errorf("%+v; the account was changed again", got)
	}
}

// What is sent again is answered of the account that it was about, whatever became of that and of its name.
func TestLateCallsAreAnsweredOfTheirAccount(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	alice := caller("alice")

	rename := api.AccountRenameRequest{Account: "orders", Revision: b.get(t, "orders").Revision, Name: "sales", IdempotencyKey: "rename"}
	for range 2 {
		got, err := b.AccountRename(t.Context(), alice, rename)
		if err != nil || got.Account != id || got.Name != "sales" {
			t.Fatalf("renamed: %+v, %v", got, err)
		}
		// The name is another account's by then, which the caller sees as well.
		if _, err := b.AccountSignup(t.Context(), alice, api.AccountSignupRequest{Name: "orders", Plan: "free"}); err != nil {
			t.Fatal(err)
		}
	}

	remove := api.AccountDeleteRequest{Account: "sales", IdempotencyKey: "delete"}
	for range 2 {
		got, err := b.AccountDelete(t.Context(), alice, remove)
		if err != nil || got.Account.Account != id || got.Account.State != "deleting" {
			t.Fatalf("deleted: %+v, %v", got, err)
		}
	}
	if _, err := b.AccountUndelete(t.Context(), alice, api.AccountActRequest{Account: "sales"}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.AccountDelete(t.Context(), alice, remove); err != nil || got.Account.Account != id || b.get(t, "sales").State != "active" {
		t.Errorf("a call that comes late: %+v, %v", got, err)
	}
}
