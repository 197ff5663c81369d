package provision_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// newPortalBed is a bed with a portal's backend, and one that is an admin as well.
func newPortalBed(t *testing.T) *accountBed {
	b := newAccountBed(t, func(o *provision.Options) { o.Tokens = tokens(withEmail) })
	r := *b.state.Load().Rules
	r.Admins = map[string][]*policy.Binding{"corp": append(r.Admins["corp"],
		&policy.Binding{Name: "portal", Issuer: "corp", When: subject("portal"), OnBehalf: true, SignUp: []string{"free"}},
		&policy.Binding{Name: "super", Issuer: "corp", When: subject("super"), OnBehalf: true, Rights: policy.AllRights()},
	)}
	b.state.Store(&policy.Snapshot{Rules: &r, Accounts: directory(nil)})
	return b
}

func acting(token, issuer, subject string) provision.Caller {
	c := caller(token)
	c.OnBehalf = provision.For(issuer, subject)
	return c
}

// A backend signs somebody up and does in their account what they could; the trail names both.
func TestOnBehalf(t *testing.T) {
	t.Parallel()
	b := newPortalBed(t)
	alice, bob := acting(forAdmin+"portal", "corp", "alice"), acting(forAdmin+"portal", corp, "bob")
	got, err := b.AccountSignup(t.Context(), alice, api.AccountSignupRequest{Name: "orders"})
	if err != nil || got.State != "active" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if a := b.get(t, "orders"); a.Owner.Subject != "alice" || a.Owner.Issuer != corp {
		t.Errorf("owner %+v", a.Owner)
	}
	if d := b.login("alice", "orders"); !d.Allowed() {
		t.Errorf("login: %+v", d)
	}
	if d := b.login("portal", "orders"); d.Allowed() {
		t.Error("the backend is let in itself")
	}
	if _, err := b.MemberAdd(t.Context(), alice, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.MemberAccept(t.Context(), bob, api.MemberAcceptRequest{Account: "orders"}); err != nil {
		t.Fatal(err)
	}
	if d := b.login("bob", "orders"); !d.Allowed() {
		t.Errorf("login: %+v", d)
	}
	for op, who := range map[string]string{api.OpAccountSignup: "alice", api.OpMemberAccept: "bob"} {
		list, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Op: op, Outcome: "done"})
		if err != nil || len(list) != 1 || list[0].Actor != "corp-portal" || list[0].Subject != who || list[0].Issuer != corp || list[0].Name != "corp-"+who {
			t.Errorf("%s is recorded as %+v, %v", op, list, err)
		}
	}
}

// Nobody gets further by a name than whom it is of, and nobody but a backend may name somebody.
func TestOnBehalfAttacks(t *testing.T) {
	t.Parallel()
	b := newPortalBed(t)
	b.orders(t)
	for _, req := range []api.MemberAddRequest{
		{Account: "orders", Role: "app", Issuer: "corp", Match: map[string][]any{"groups": {"orders"}}},
		{Account: "orders", Role: "app", Issuer: "corp", Email: "emma@example.com"},
	} {
		if _, err := b.MemberAdd(t.Context(), admin, req); err != nil {
			t.Fatal(err)
		}
	}
	update := api.AccountUpdateRequest{Account: "orders", Revision: b.get(t, "orders").Revision, Plan: "team"}
	for name, attack := range map[string]struct {
		who  provision.Caller
		do   func(provision.Caller) error
		code int
	}{
		"a login token":              {acting("portal", "corp", "alice"), b.rename(t), http.StatusForbidden},
		"a login token of itself":    {acting("alice", "corp", "alice"), b.rename(t), http.StatusForbidden},
		"no token":                   {acting("", "corp", "alice"), b.rename(t), http.StatusForbidden},
		"an admin without the grant": {acting(forAdmin+"root", "corp", "alice"), b.rename(t), http.StatusForbidden},
		"somebody without rights":    {acting(forAdmin+"bob", "corp", "alice"), b.rename(t), http.StatusForbidden},
		"another issuer":             {acting(forAdmin+"portal", "https://evil.example.com", "alice"), b.rename(t), http.StatusBadRequest},
		"the issuer of admin tokens": {acting(forAdmin+"portal", provision.AdminTokenIssuer, "alice"), b.rename(t), http.StatusBadRequest},
		"nobody":                     {acting(forAdmin+"portal", "corp", ""), b.rename(t), http.StatusBadRequest},
		"who is no member":           {acting(forAdmin+"portal", "corp", "bob"), b.rename(t), http.StatusNotFound},
		"an admin's name":            {acting(forAdmin+"portal", "corp", "root"), b.rename(t), http.StatusNotFound},
		"an admin's rights by its own": {acting(forAdmin+"super", "corp", "alice"), func(c provision.Caller) error {
			_, err := b.AccountUpdate(t.Context(), c, update)
			return err
		}, http.StatusForbidden},
		"whose group it is": {acting(forAdmin+"portal", "corp", "cleo"), func(c provision.Caller) error {
			_, err := b.AccountGet(t.Context(), c, api.AccountRequest{Account: "orders"})
			return err
		}, http.StatusNotFound},
		"whose address it is": {acting(forAdmin+"portal", "corp", "emma"), func(c provision.Caller) error {
			_, err := b.MemberAccept(t.Context(), c, api.MemberAcceptRequest{Account: "orders"})
			return err
		}, http.StatusForbidden},
		"a plan that it was not given": {acting(forAdmin+"portal", "corp", "bob"), func(c provision.Caller) error {
			_, err := b.AccountSignup(t.Context(), c, api.AccountSignupRequest{Name: "team-x", Plan: "team"})
			return err
		}, http.StatusBadRequest},
		"an owner besides": {acting(forAdmin+"portal", "corp", "bob"), func(c provision.Caller) error {
			_, err := b.AccountSignup(t.Context(), c, api.AccountSignupRequest{Name: "x", Owner: &api.Owner{Issuer: "corp", Subject: "carol"}})
			return err
		}, http.StatusForbidden},
	} {
		e := refusal(t, attack.do(attack.who))
		if e.Code != attack.code {
			t.Errorf("%s: %d %s", name, e.Code, e.Message)
		}
	}
	if a := b.get(t, "orders"); a.Name != "orders" || a.Plan != "free" {
		t.Errorf("the account is %+v", a)
	}
	blocked := store.Revocation{Revocation: policy.Revocation{ID: "b", Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "alice"}}, At: now}, Reason: "left", Actor: "a"}
	if _, _, err := b.Store.Revoke(t.Context(), blocked, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.refresh(t.Context(), b.Store); err != nil {
		t.Fatal(err)
	}
	if e := refusal(t, b.rename(t)(acting(forAdmin+"portal", "corp", "alice"))); e.Reason != string(policy.Blocked) {
		t.Errorf("for somebody who is blocked: %d %s", e.Code, e.Reason)
	}
}

// Memberships that need nothing shown count for a backend: by identity, of an e-mail address once its person has accepted, and by
// the subject alone.
func TestOnBehalfMemberships(t *testing.T) {
	t.Parallel()
	b := newPortalBed(t)
	b.orders(t)
	for _, req := range []api.MemberAddRequest{
		{Account: "orders", Role: "app", Issuer: "corp", Match: map[string][]any{"sub": {"svc-*"}}},
		{Account: "orders", Role: "app", Issuer: "corp", Match: map[string][]any{"sub": {"grouped"}, "groups": {"*"}}},
		{Account: "orders", Role: "app", Issuer: "corp", Email: "emma@example.com"},
	} {
		if _, err := b.MemberAdd(t.Context(), admin, req); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(subject string) bool {
		_, err := b.AccountGet(t.Context(), acting(forAdmin+"portal", "corp", subject), api.AccountRequest{Account: "orders"})
		return err == nil
	}
	if !sees("svc-night") || sees("grouped") || sees("emma") {
		t.Errorf("by subject %t, by groups too %t, by an address that was not accepted %t", sees("svc-night"), sees("grouped"), sees("emma"))
	}
	invited, err := b.MemberInvite(t.Context(), admin, api.MemberInviteRequest{Account: "orders", Role: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.MemberAccept(t.Context(), acting(forAdmin+"portal", "corp", "ida"), api.MemberAcceptRequest{Account: "orders", Secret: invited.Secret}); err != nil || !sees("ida") {
		t.Errorf("who was invited by a secret: %v", err)
	}
	if _, err := b.MemberAccept(t.Context(), caller("emma=emma@example.com"), api.MemberAcceptRequest{Account: "orders"}); err != nil || !sees("emma") {
		t.Errorf("who has accepted for her address: %v", err)
	}
}

// A backend whose call names nobody is told what is missing, with the log and the trail; nobody else is told of it.
func TestOnBehalfOfNobody(t *testing.T) {
	t.Parallel()
	b := newPortalBed(t)
	r := *b.state.Load().Rules
	r.Admins = map[string][]*policy.Binding{"corp": append(r.Admins["corp"],
		&policy.Binding{Name: "watcher", Issuer: "corp", When: subject("watcher"), OnBehalf: true, Rights: []policy.Right{policy.RightAudit}},
	)}
	b.state.Store(&policy.Snapshot{Rules: &r, Accounts: directory(nil)})
	for who, want := range map[string]struct {
		reason string
		told   bool
	}{
		forAdmin + "portal":  {string(policy.NoRights), true},
		forAdmin + "watcher": {api.ReasonForbidden, true},
		forAdmin + "bob":     {string(policy.NoRights), false},
		forAdmin + "auditor": {api.ReasonForbidden, false},
	} {
		b.records.taken()
		_, err := b.AccountSignup(t.Context(), caller(who), api.AccountSignupRequest{Name: "orders"})
		e := refusal(t, err)
		if e.Code != http.StatusForbidden || e.Reason != want.reason || strings.Contains(e.Message, api.OnBehalfHeader) != want.told {
			t.Errorf("%s: %d %s %s", who, e.Code, e.Reason, e.Message)
		}
		if list := b.records.taken(); len(list) != 1 || list[0].Detail != e.Message || list[0].Reason != want.reason {
			t.Errorf("%s: recorded is %+v", who, list)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "this token acts for others, and the call names nobody: send the header "+api.OnBehalfHeader) {
		t.Errorf("the log says %s", log)
	}
	// And the other way round: who may not act for others is told what that takes.
	_, err := b.AccountSignup(t.Context(), acting(forAdmin+"root", "corp", "alice"), api.AccountSignupRequest{Name: "orders"})
	if e := refusal(t, err); e.Reason != string(policy.NoRights) || !strings.Contains(e.Message, "grant.on_behalf_of") {
		t.Errorf("an admin without the grant: %s %s", e.Reason, e.Message)
	}
}

// A backend that is in other hands names people who are not, to get more than a plan lets one have: what it makes is bounded.
func TestOnBehalfOfInventedPeople(t *testing.T) {
	t.Parallel()
	b := newPortalBed(t)
	made, bounded := 0, 0
	for i := range 150 {
		name := fmt.Sprint("invented-", i)
		_, err := b.AccountSignup(t.Context(), acting(forAdmin+"portal", "corp", name), api.AccountSignupRequest{Name: name})
		switch reasonOf(err) {
		case "":
			made++
		case api.ReasonRateLimited:
			bounded++
		default:
			t.Fatal(err)
		}
	}
	if made != 100 || bounded != 50 {
		t.Errorf("%d accounts were made in a moment, and %d calls bounded", made, bounded)
	}
	b.orders(t) // nobody else is
}

func (b *accountBed) rename(t *testing.T) func(provision.Caller) error {
	return func(c provision.Caller) error {
		_, err := b.AccountRename(t.Context(), c, api.AccountRenameRequest{Account: "orders", Revision: 1, Name: "mine"})
		return err
	}
}

func refusal(t *testing.T, err error) *api.Error {
	t.Helper()
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		t.Errorf("not refused: %v", err)
		return &api.Error{}
	}
	return e
}

// Over HTTP the header counts for accounts and members alone: what else is called with it is not carried out.
func TestOnBehalfHeader(t *testing.T) {
	t.Parallel()
	b := newPortalBed(t)
	server := httptest.NewServer(b.Handler())
	t.Cleanup(server.Close)
	post := func(op, token, body string, names ...string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+api.Path(op), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		for _, name := range names {
			req.Header.Add(api.OnBehalfHeader, name)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	const alice = `{"issuer":"corp","subject":"alice"}`
	if code := post(api.OpAccountSignup, forAdmin+"portal", `{"name":"orders"}`, alice); code != http.StatusOK {
		t.Errorf("answered %d", code)
	}
	if a := b.get(t, "orders"); a.Owner.Subject != "alice" {
		t.Errorf("owner %+v", a.Owner)
	}
	for _, names := range [][]string{{""}, {"alice"}, {alice, alice}, {alice + alice}, {`{"issuer":"corp","subject":"alice","admin":true}`}, {`{"subject":"alice"}`}} {
		if code := post(api.OpAccountGet, forAdmin+"super", `{"account":"orders"}`, names...); code != http.StatusBadRequest {
			t.Errorf("%q: answered %d", names, code)
		}
	}
	for op, body := range map[string]string{
		api.OpRevoke: `{"issuer":"corp","subject":"bob","reason":"x"}`, api.OpAccountSuspend: `{"account":"orders","reason":"x"}`, api.OpAudit: `{}`, api.OpWhoami: `{}`,
	} {
		if code := post(op, forAdmin+"super", body, alice); code != http.StatusBadRequest {
			t.Errorf("%s: answered %d", op, code)
		}
	}
}
