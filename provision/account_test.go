package provision_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// accountBed is a bed in which everybody of corp but mallory may sign up under the plans free and team, and whose servers apply
// what is stored at once.
type accountBed struct {
	*bed
	records  *spooled
	ring     *seal.Ring
	plans    map[string]*account.Plan
	servers  *connected
	stored   provision.Stored
	known    string            // id of an account that servers have
	problems map[string]string // by id, why servers have not what they are to have
	trusted  string            // issuer that is trusted for e-mail addresses
	applies  atomic.Bool
	state    atomic.Pointer[policy.Snapshot]
}

func newAccountBed(t testing.TB, change ...func(*provision.Options)) *accountBed {
	t.Helper()
	a := &accountBed{records: &spooled{}, ring: ring(t), servers: &connected{}, trusted: corp}
	a.applies.Store(true)
	a.plans = map[string]*account.Plan{
		"free": {Name: "free", Roles: []string{"app"}, PerSubject: 2, Limits: account.Limits{Connections: 20, Subscriptions: account.NoLimit}},
		"team": {Name: "team", Roles: []string{"app", "reader"}, PerSubject: 1, Approval: true, Pattern: "team-*"},
	}
	r := rules(t)
	r.Plans = map[string]*policy.Plan{}
	for name, p := range a.plans {
		r.Plans[name] = &policy.Plan{Name: name, TTL: time.Hour, Roles: map[string]*policy.Role{}}
		for _, role := range p.Roles {
			r.Plans[name].Roles[role] = &policy.Role{Name: role}
		}
	}
	r.SignUps = map[string][]*policy.Binding{"corp": {{Name: "sign-up", Issuer: "corp", When: nobody("mallory"), SignUp: []string{"free", "team"}}}}
	r.Admins = map[string][]*policy.Binding{"corp": {
		{Name: "admins", Issuer: "corp", When: subject("root"), Rights: policy.AllRights()},
		{Name: "second", Issuer: "corp", When: subject("second"), Rights: []policy.Right{policy.RightAccounts}},
		{Name: "auditors", Issuer: "corp", When: subject("auditor"), Rights: []policy.Right{policy.RightAudit}},
	}}
	a.state.Store(&policy.Snapshot{Rules: r})
	a.bed = newBed(t, append([]func(*provision.Options){func(o *provision.Options) {
		o.Records, o.Replica, o.State, o.Servers = a.records, "r1", a.state.Load, a.servers
		o.Refresh = func(ctx context.Context) error { return a.refresh(ctx, o.Store) }
		o.Accounts = &provision.Accounts{
			Audience: service, Plans: func() map[string]*account.Plan { return a.plans }, Seal: func() *seal.Ring { return a.ring },
			TrustsEmail: func(issuer string) bool { return issuer == a.trusted },
			Problem:     func(id string) string { return a.problems[id] },
			Known:       func(_ context.Context, id string) (bool, error) { return id == a.known, nil },
			Stored:      func(context.Context, string) (provision.Stored, error) { return a.stored, nil },
		}
	}}, change...)...)
	return a
}

// refresh makes decisions follow the store, after the servers have applied what is in it.
func (b *accountBed) refresh(ctx context.Context, s store.Store) error {
	if b.applies.Load() {
		if err := applyAll(ctx, s); err != nil {
			return err
		}
	}
	loaded, err := s.Load(ctx)
	if err != nil {
		return err
	}
	b.state.Store(&policy.Snapshot{
		Rules: b.state.Load().Rules, Revocations: policy.NewRevocations(loaded.Revocations), Accounts: directory(loaded.Accounts),
	})
	return nil
}

// applyAll notes that every server has what is stored.
func applyAll(ctx context.Context, s store.Store) error {
	list, _, err := s.Accounts(ctx, store.AccountFilter{Unapplied: true})
	if err != nil {
		return err
	}
	var done []store.Applied
	for _, a := range list {
		done = append(done, store.Applied{ID: a.ID, Revision: a.Revision})
	}
	return s.MarkApplied(ctx, done)
}

// directory returns what decisions know of the accounts.
func directory(list []account.Account) *policy.Directory {
	var entries []policy.Entry
	for i := range list {
		entries = append(entries, list[i].Entry())
	}
	return policy.NewDirectory(entries)
}

// orders signs alice up for an account of that name.
func (b *accountBed) orders(t testing.TB) api.AccountSignup {
	t.Helper()
	got, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "orders", Plan: "free"})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// login returns what a login to the account gets.
func (b *accountBed) login(subject, name string) *policy.Decision {
	d := policy.Decide(b.state.Load(), person(subject), policy.Connection{Type: policy.Standard, Account: name}, now, nil)
	return &d
}

// get reads an account as an admin.
func (b *accountBed) get(t testing.TB, name string) api.Account {
	t.Helper()
	a, err := b.AccountGet(t.Context(), admin, api.AccountRequest{Account: name})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func adminCaller(subject string) provision.Caller {
	c := caller(forAdmin + subject)
	return c
}

func TestAccountSignup(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	got := b.orders(t)
	if got.Name != "orders" || got.State != "active" || !nkeys.IsValidPublicAccountKey(got.Account) {
		t.Fatalf("got %+v", got)
	}
	if d := b.login("alice", "orders"); !d.Allowed() || d.Account.ID != got.Account || len(d.Account.SigningKeys) != 1 || d.Account.SigningKeys[0] == got.Account {
		t.Fatalf("login: %+v", d)
	}
	if d := b.login("bob", "orders"); d.Allowed() {
		t.Errorf("somebody else is let in: %+v", d)
	}
	// The seed of the signing key is there, sealed for its own row, and no other is.
	keys, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{})
	if err != nil || len(keys) != 1 || keys[0].Account != got.Account {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	seed, err := b.ring.Open(keys[0].Box, keys[0].Row())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	if public, err := pair.PublicKey(); err != nil || public != keys[0].Public {
		t.Errorf("the seed is of %s, %v", public, err)
	}
	entries, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Op: api.OpAccountSignup})
	if err != nil || len(entries) != 1 || entries[0].Actor != "corp-alice" || entries[0].Subject != "alice" || entries[0].Account != "orders" || entries[0].Target != got.Account {
		t.Errorf("entries %+v, %v", entries, err)
	}
	if strings.Contains(b.log.String(), string(seed)) {
		t.Error("the seed is in the log")
	}
	// The same call again.
	again, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "ORDERS", Plan: "free"})
	if err != nil || again != got {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestAccountSignupIsNotActiveBeforeItIsApplied(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.applies.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got, err := b.AccountSignup(ctx, caller("alice"), api.AccountSignupRequest{Name: "orders", Plan: "free"})
	if err != nil || got.State != "creating" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if d := b.login("alice", "orders"); d.Allowed() || d.Reason() != policy.AccountUnready {
		t.Errorf("login: %v", d.Reason())
	}
}

func TestAccountSignupRefuses(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	plain := func(name, plan string) api.AccountSignupRequest {
		return api.AccountSignupRequest{Name: name, Plan: plan}
	}
	user, _ := newUserKey(t).PublicKey()
	operator, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	operatorKey, _ := operator.PublicKey()
	withKey := func(key string) api.AccountSignupRequest {
		r := plain("keyed", "free")
		r.Key, r.Proof = key, &api.SignupProof{Audience: service, Time: now.UnixMilli()}
		return r
	}
	damaged := []byte(b.get(t, "orders").Account)
	damaged[20] ^= 1
	for name, c := range map[string]struct {
		as     string
		req    api.AccountSignupRequest
		code   int
		reason string
	}{
		"taken":                   {"bob", plain("orders", "free"), 409, "name_taken"},
		"taken, in capitals":      {"bob", plain("OrDeRs", "free"), 409, "name_taken"},
		"a Cyrillic letter":       {"bob", plain("оrders", "free"), 400, "name_invalid"},
		"a long s":                {"bob", plain("orderſ", "free"), 400, "name_invalid"},
		"the Kelvin sign":         {"bob", plain("\u212aelvin", "free"), 400, "name_invalid"},
		"10 kB":                   {"bob", plain(strings.Repeat("a", 10_000), "free"), 400, "name_invalid"},
		"a path":                  {"bob", plain("../orders", "free"), 400, "name_invalid"},
		"reserved":                {"bob", plain("SYS", "free"), 400, "name_reserved"},
		"of the configuration":    {"bob", plain("app", "free"), 400, "name_reserved"},
		"not the plan's pattern":  {"bob", plain("orders2", "team"), 400, "name_invalid"},
		"no plan of several":      {"bob", plain("new", ""), 400, "plan_unknown"},
		"a plan that is not":      {"bob", plain("new", "gold"), 400, "plan_unknown"},
		"without a binding":       {"mallory", plain("new", "free"), 403, "no_sign_up"},
		"for somebody else":       {"bob", api.AccountSignupRequest{Name: "new", Plan: "free", Owner: &api.Owner{Issuer: "corp", Subject: "alice"}}, 403, "forbidden"},
		"a user's key":            {"bob", withKey(user), 400, "key_invalid"},
		"an operator's key":       {"bob", withKey(operatorKey), 400, "key_invalid"},
		"a damaged key":           {"bob", withKey(string(damaged)), 400, "key_invalid"},
		"another account's key":   {"bob", withKey(b.get(t, "orders").Account), 403, "signup_proof_invalid"},
		"a key without proof":     {"bob", func() api.AccountSignupRequest { r := withKey(b.get(t, "orders").Account); r.Proof = nil; return r }(), 403, "signup_proof_invalid"},
		"tags that are none":      {"bob", api.AccountSignupRequest{Name: "new", Plan: "free", Tags: []string{"a b"}}, 400, "bad_request"},
		"a text that moves lines": {"bob", api.AccountSignupRequest{Name: "new", Plan: "free", Description: "a\x1b[2J"}, 400, "bad_request"},
		"a token for admins":      {"admin:auditor", plain("new", "free"), 403, "forbidden"},
	} {
		_, err := b.AccountSignup(t.Context(), caller(c.as), c.req)
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != c.code || e.Reason != c.reason {
			t.Errorf("%s: %v, want %d %s", name, err, c.code, c.reason)
		}
	}
	if list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{}); err != nil || len(list) != 1 {
		t.Errorf("%d accounts, %v", len(list), err)
	}
}

// keyedSignup is a request for the account keyed, signed with the key as of now; the change comes before the signature.
func keyedSignup(t testing.TB, pair nkeys.KeyPair, token string, change ...func(*api.AccountSignupRequest)) api.AccountSignupRequest {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	req := api.AccountSignupRequest{Name: "keyed", Plan: "free", Key: public, Proof: &api.SignupProof{Audience: service, Time: now.UnixMilli()}}
	for _, f := range change {
		f(&req)
	}
	signature, err := pair.Sign(api.AccountStatement(req, token))
	if err != nil {
		t.Fatal(err)
	}
	req.Proof.Signature = base64.RawURLEncoding.EncodeToString(signature)
	return req
}

func TestAccountSignupWithAnOwnKey(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	b := newAccountBed(t)
	for name, c := range map[string]struct {
		req    api.AccountSignupRequest
		reason string
	}{
		"for another token":   {keyedSignup(t, pair, "bob"), "signup_proof_invalid"},
		"for another name":    {func() api.AccountSignupRequest { r := keyedSignup(t, pair, "alice"); r.Name = "other"; return r }(), "signup_proof_invalid"},
		"for another service": {keyedSignup(t, pair, "alice", func(r *api.AccountSignupRequest) { r.Proof.Audience = "https://rogue.example.com" }), "signup_proof_invalid"},
		"from a minute ago":   {keyedSignup(t, pair, "alice", func(r *api.AccountSignupRequest) { r.Proof.Time -= 60_000 }), "signup_proof_stale"},
	} {
		_, err := b.AccountSignup(t.Context(), caller("alice"), c.req)
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nobody can take over what servers know already, whoever holds its key.
	b.known = public
	_, err = b.AccountSignup(t.Context(), caller("alice"), keyedSignup(t, pair, "alice"))
	wantError(t, err, http.StatusConflict, api.ReasonKeyTaken)
	b.known = ""
	req := keyedSignup(t, pair, "alice")
	got, err := b.AccountSignup(t.Context(), caller("alice"), req)
	if err != nil || got.Account != public {
		t.Fatalf("got %+v, %v", got, err)
	}
	if again, err := b.AccountSignup(t.Context(), caller("alice"), req); err != nil || again != got {
		t.Errorf("the same call: %+v, %v", again, err)
	}
	_, err = b.AccountSignup(t.Context(), caller("alice"), keyedSignup(t, pair, "alice", func(r *api.AccountSignupRequest) { r.Name = "second" }))
	wantError(t, err, http.StatusConflict, api.ReasonKeyTaken)
	if keys, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{}); err != nil || len(keys) != 1 || keys[0].Public == public {
		t.Errorf("keys %+v, %v", keys, err)
	}
}

func TestAccountSignupNeedsKeysToBeKept(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.ring = nil
	_, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "orders", Plan: "free"})
	if m := wantError(t, err, http.StatusConflict, api.ReasonSealMissing); !strings.Contains(m, "seal.key") {
		t.Errorf("message %s", m)
	}
	for _, reason := range []string{api.ReasonNotManaged, api.ReasonNotInConfigMode} {
		b = newAccountBed(t, func(o *provision.Options) { o.Unmanaged = func() (string, string) { return reason, "why" } })
		_, err = b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "orders", Plan: "free"})
		wantError(t, err, http.StatusConflict, reason)
	}
}

// As many accounts as the plan lets, however many are asked for at once.
func TestAccountQuota(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	var made atomic.Int32
	var group sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		group.Go(func() {
			_, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: name, Plan: "free"})
			if err == nil {
				made.Add(1)
			} else if e, ok := errors.AsType[*api.Error](err); !ok || e.Reason != api.ReasonQuotaExceeded {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	group.Wait()
	if made.Load() != 2 {
		t.Errorf("%d accounts, want 2", made.Load())
	}
}

// One account, however often the same is asked for at once.
func TestAccountSignupAtOnce(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	var ids sync.Map
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			got, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "orders", Plan: "free"})
			if err != nil {
				t.Error(err)
			}
			ids.Store(got.Account, true)
		})
	}
	group.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d accounts", n)
	}
}

func TestAccountApproval(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	for _, name := range []string{"team-a", "team-b"} {
		as := map[string]string{"team-a": "alice", "team-b": "bob"}[name]
		got, err := b.AccountSignup(t.Context(), caller(as), api.AccountSignupRequest{Name: name, Plan: "team"})
		if err != nil || got.State != "requested" {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if d := b.login("alice", "team-a"); d.Allowed() {
		t.Error("let in before the approval")
	}
	h := b.Handler()
	for _, op := range []string{api.OpAccountApprove, api.OpAccountReject, api.OpAccountSuspend, api.OpAccountResume} {
		for token, reason := range map[string]string{"alice": string(policy.LoginToken), "admin:auditor": api.ReasonForbidden} {
			call(t, h, http.MethodPost, api.Path(op), token, `{"account":"team-a","reason":"mine"}`).refused(t, http.StatusForbidden, reason)
		}
	}
	if a := call(t, h, http.MethodPost, api.Path(api.OpAccountApprove), "admin:root", `{"account":"team-a"}`); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), `"active"`) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if d := b.login("alice", "team-a"); !d.Allowed() {
		t.Errorf("login: %v", d.Reason())
	}
	call(t, h, http.MethodPost, api.Path(api.OpAccountApprove), "admin:root", `{"account":"team-a"}`).refused(t, http.StatusConflict, api.ReasonWrongState)
	call(t, h, http.MethodPost, api.Path(api.OpAccountReject), "admin:root", `{"account":"team-b"}`).refused(t, http.StatusBadRequest, api.ReasonBadRequest)
	if a := call(t, h, http.MethodPost, api.Path(api.OpAccountReject), "admin:root", `{"account":"team-b","reason":"no team"}`); a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if keys, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{}); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v: want that of team-a", len(keys), err)
	}
	if _, err := b.AccountSignup(t.Context(), caller("carol"), api.AccountSignupRequest{Name: "team-b", Plan: "team"}); err != nil {
		t.Errorf("the name is not free: %v", err)
	}
}
