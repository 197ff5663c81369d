package provision_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// spooled keeps audit entries as the spool does, or fails to.
type spooled struct {
	mu      sync.Mutex
	entries []store.AuditEntry
	err     error
}

func (s *spooled) Append(e store.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.entries = append(s.entries, e)
	}
	return s.err
}

// taken returns the entries since it was called last.
func (s *spooled) taken() []store.AuditEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.entries
	s.entries = nil
	return list
}

// subject is a condition that one subject meets.
type subject string

func (s subject) Holds(claims map[string]any) (bool, error) { return claims["sub"] == string(s), nil }
func (s subject) Reads() ([]policy.ClaimPath, bool)         { return nil, true }
func (s subject) String() string                            { return "sub is " + string(s) }

// newAdminBed is a bed in which each right has an admin of its name, and root has all.
func newAdminBed(t testing.TB, change ...func(*provision.Options)) (*bed, *spooled, *policy.Snapshot) {
	t.Helper()
	state := &policy.Snapshot{Rules: rules(t)}
	var admins []*policy.Binding
	for _, right := range policy.AllRights() {
		admins = append(admins, &policy.Binding{Name: string(right), Issuer: "corp", When: subject(right), Rights: []policy.Right{right}})
	}
	admins = append(admins, &policy.Binding{Name: "root", Issuer: "corp", When: subject("root"), Rights: policy.AllRights()})
	state.Rules.Admins = map[string][]*policy.Binding{"corp": admins}
	records := &spooled{}
	setup := func(o *provision.Options) {
		o.Records, o.Replica, o.State = records, "r1", func() *policy.Snapshot { return state }
		o.Servers = &connected{list: sessions()}
		o.Refresh = func(ctx context.Context) error {
			if err := applyAll(ctx, o.Store); err != nil {
				return err
			}
			loaded, err := o.Store.Load(ctx)
			state.Accounts = directory(loaded.Accounts)
			return err
		}
		o.Accounts = &provision.Accounts{
			Plans: func() map[string]*account.Plan { return map[string]*account.Plan{"free": {Name: "free"}} },
			Seal:  func() *seal.Ring { return ring(t) },
		}
	}
	b := newBed(t, append([]func(*provision.Options){setup}, change...)...)
	b.saveAccounts(t)
	return b, records, state
}

// ring returns what seals with a key of its own.
func ring(t testing.TB) *seal.Ring {
	t.Helper()
	key, err := seal.ParseKey([]byte(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	return seal.NewRing(key)
}

// saveAccounts stores accounts of alice: orders, which is active, and two that are requested.
func (b *bed) saveAccounts(t testing.TB) {
	t.Helper()
	alice := account.Person{Principal: policy.Principal{Issuer: corp, Subject: "alice"}, Name: "corp-alice"}
	for i, name := range []string{"orders", "requested", "unwanted"} {
		a := account.Account{
			ID: accountIDs[i], Name: name, Plan: "free", State: account.Requested, Revision: 1, Owner: alice, Created: now, Updated: now,
			Members: []account.Member{{ID: "01970000-0000-7000-8000-0000000000a1", Role: account.OwnerRole, Person: alice, Accepted: now, By: "corp-alice"}},
		}
		if name == "orders" {
			a.State, a.Applied = account.Active, 1
		}
		entry := store.AuditEntry{ID: "01960000-0000-7000-8000-00000000000" + strconv.Itoa(i), At: now.Add(-24 * time.Hour), Kind: store.AdminEntry, Op: api.OpAccountSignup, Actor: "corp-alice", Outcome: "done"}
		if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: a, Entry: entry}); err != nil {
			t.Fatal(err)
		}
	}
}

// accountIDs are public keys of accounts.
var accountIDs = []string{
	"ADHMYFIH3QO524UVSUOCSCEI6CK23OIEJUNXHVUW43PQMXLIHPKPZ75Q",
	"ABVXTRL6NIEVEOJIFQCIDDUWCEXT6A5EAAN2S6SWJQRYKKR7D2S7Y5GF",
	"ADNNXUMEULKSN4PL3VOAN7NNSNM3EKDVTNGX66OWM2E7UJKKVWCUNNB4",
	"ACN6GKDXSWIHQCKAPYKEHH7RTDK37R644343Y5B4WNURI33BBNEACLSN",
	"AD2OFPRS6QTWPTWFHNFAAHCRNIZGPWCUM6JNBTGHCZGBYV34EPMGPANW",
	"ABTUDOKCU4QZOPF5S3P3YTWFSRODLUY5BDIESWZSLKQGRWAB3FF25M5Y",
}

// needs are the rights that operations take, and a request that each carries out.
var needs = []struct {
	op    string
	right policy.Right
	body  string
}{
	{api.OpExplain, policy.RightExplain, `{"token":"alice"}`},
	{api.OpRevoke, policy.RightRevoke, `{"issuer":"corp","subject":"mallory","reason":"left"}`},
	{api.OpRevokeLift, policy.RightRevoke, `{"issuer":"corp","subject":"mallory","reason":"back"}`},
	{api.OpRevocations, policy.RightRevoke, `{}`},
	{api.OpAudit, policy.RightAudit, `{}`},
	{api.OpSessions, policy.RightSessions, `{}`},
	{api.OpKick, policy.RightRevoke, `{"subject":"mallory","reason":"left"}`},
	{api.OpIdentities, policy.RightRevoke, `{"display":"alice@example.com"}`},
	{api.OpAccountApprove, policy.RightAccounts, `{"account":"requested","idempotency_key":"once"}`},
	{api.OpAccountReject, policy.RightAccounts, `{"account":"unwanted","reason":"no team","idempotency_key":"other"}`},
	{api.OpAccountSuspend, policy.RightAccounts, `{"account":"orders","reason":"unpaid"}`},
	{api.OpAccountResume, policy.RightAccounts, `{"account":"orders","reason":"paid"}`},
}

// Each operation takes its right and no other, and each call is recorded with who made it, whether it was
// carried out or not.
func TestRightsOfOperations(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t)
	h := b.Handler()
	for _, n := range needs {
		for _, right := range append(policy.AllRights(), "root") {
			a := call(t, h, http.MethodPost, api.Path(n.op), "admin:"+string(right), n.body)
			entries := records.taken()
			if len(entries) != 1 {
				t.Fatalf("%s as %s: %d entries", n.op, right, len(entries))
			}
			e := entries[0]
			want := store.AuditEntry{
				ID: e.ID, At: now, Kind: store.AdminEntry, Op: n.op, Outcome: "allowed", Reason: "allowed", Replica: "r1",
				Issuer: corp, Subject: string(right), Name: "corp-" + string(right), Actor: "corp-" + string(right), Source: "192.0.2.1", ConnType: "http",
			}
			if right == n.right || right == "root" {
				if a.Code != http.StatusOK && a.Code != http.StatusNotFound && a.Code != http.StatusConflict { // there may be nothing left to lift, or to approve
					t.Errorf("%s as %s: %d %s", n.op, right, a.Code, a.Body)
				}
			} else {
				refused := a.refused(t, http.StatusForbidden, api.ReasonForbidden)
				if !strings.Contains(refused.Message, "right "+string(n.right)) || refused.RequestID != e.ID {
					t.Errorf("%s as %s: %+v", n.op, right, refused)
				}
				want.Outcome, want.Reason, want.Detail, want.Actor = "refused", api.ReasonForbidden, refused.Message, ""
			}
			if !equalEntry(e, want) {
				t.Errorf("%s as %s: recorded\n%+v, want\n%+v", n.op, right, e, want)
			}
		}
	}
	// Who did it is in the entry of the change as well.
	page, err := b.Audit(t.Context(), admin, api.AuditRequest{Kind: store.AdminEntry, Actor: "corp-revoke"})
	if err != nil || len(page.Entries) == 0 {
		t.Errorf("%+v, %v", page, err)
	}
}

func equalEntry(a, b store.AuditEntry) bool {
	return a.ID == b.ID && a.At.Equal(b.At) && a.Kind == b.Kind && a.Op == b.Op && a.Outcome == b.Outcome && a.Reason == b.Reason &&
		a.Detail == b.Detail && a.Issuer == b.Issuer && a.Subject == b.Subject && a.Name == b.Name && a.Actor == b.Actor &&
		a.Source == b.Source && a.ConnType == b.ConnType && a.Replica == b.Replica
}

// Who is denied logins is denied administration at once.
func TestRevokedAdmins(t *testing.T) {
	t.Parallel()
	b, _, state := newAdminBed(t)
	h := b.Handler()
	if a := call(t, h, http.MethodPost, api.Path(api.OpRevocations), "admin:root", "{}"); a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	for _, test := range []struct {
		kind policy.RevocationKind
		want policy.Reason
	}{{policy.Block, policy.Blocked}, {policy.Logout, policy.LoggedOut}} {
		state.Revocations = policy.NewRevocations([]policy.Revocation{{
			ID: "r", Kind: test.kind, Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "root"}}, At: now,
		}})
		call(t, h, http.MethodPost, api.Path(api.OpRevocations), "admin:root", "{}").refused(t, http.StatusForbidden, string(test.want))
	}
}

// What is wrong with a token is said, and the token is nowhere.
func TestRefusedAdminTokens(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refusal policy.Reason
		known   bool
		code    int
	}{
		{policy.LoginToken, true, http.StatusForbidden},
		{policy.AdminAudienceRefused, true, http.StatusForbidden},
		{policy.TokenExpired, true, http.StatusUnauthorized},
		{policy.SignatureInvalid, false, http.StatusUnauthorized},
		{policy.TokenMalformed, false, http.StatusUnauthorized},
		{policy.IssuerUnknown, false, http.StatusUnauthorized},
		{policy.KeysUnavailable, false, http.StatusServiceUnavailable},
	} {
		b, records, _ := newAdminBed(t, withTokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
			var id *policy.Identity
			if test.known {
				id = person("root")
			}
			return id, policy.Refuse(test.refusal, "detail for operators")
		}))
		a := call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevoke), "admin:s3cret", needs[1].body)
		e := a.refused(t, test.code, string(test.refusal))
		known, _ := api.Explain(string(test.refusal))
		if e.Message != known.Meaning+" "+known.Remedy {
			t.Errorf("%s: %s", test.refusal, e.Message)
		}
		if list := records.taken(); len(list) != 1 || list[0].Reason != string(test.refusal) || list[0].Outcome != "refused" || (list[0].Subject != "") != test.known {
			t.Errorf("%s: recorded %+v", test.refusal, list)
		}
		if strings.Contains(b.log.String(), "s3cret") {
			t.Errorf("%s: the token is in the log", test.refusal)
		}
		if list := b.list(t); len(list) != 0 {
			t.Errorf("%s: stored %+v", test.refusal, list)
		}
	}
}

// A token that is bound to a key is worth nothing in a call, which proves none.
func TestBoundTokensDoNotAdminister(t *testing.T) {
	t.Parallel()
	b, _, _ := newAdminBed(t, withTokens(func(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
		id := person(token)
		id.Claims["nonce"] = "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"
		return id, nil
	}))
	call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevoke), "admin:root", needs[1].body).refused(t, http.StatusForbidden, string(policy.KeyProofMissing))
}

// A call that cannot be recorded is not carried out, neither from afar nor on the host.
func TestCallsThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t)
	records.err = errors.New("the disk is full")
	e := call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevoke), "admin:root", needs[1].body).refused(t, http.StatusServiceUnavailable, string(policy.RecordUnavailable))
	if strings.Contains(e.Message, "disk is full") {
		t.Errorf("the error of the disk is shown: %s", e.Message)
	}
	path := serveLocal(t, b)
	if code, body, err := post(path, api.OpRevoke, "", needs[1].body); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("on the host: %d %s, %v", code, body, err)
	}
	if list := b.list(t); len(list) != 0 {
		t.Errorf("stored %+v", list)
	}
}

// The local socket has every right, and its calls are recorded as well.
func TestLocalCallsAreRecorded(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t)
	path := serveLocal(t, b)
	for _, n := range needs {
		if code, body, err := post(path, n.op, "", n.body); err != nil || code != http.StatusOK {
			t.Fatalf("%s: %d %s, %v", n.op, code, body, err)
		}
		list := records.taken()
		if len(list) != 1 || !strings.HasPrefix(list[0].Actor, "local:") || list[0].ConnType != "socket" || list[0].Op != n.op || list[0].Outcome != "allowed" {
			t.Errorf("%s: recorded %+v", n.op, list)
		}
	}
}

// Calls that need no valid token are counted and sampled; none is lost from the count.
func TestRefusedCallsAreSampled(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t, withTokens(refuse(policy.SignatureInvalid)))
	h := b.Handler()
	for range 500 {
		call(t, h, http.MethodPost, api.Path(api.OpRevoke), "admin:x", "{}").refused(t, http.StatusUnauthorized, string(policy.SignatureInvalid))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil { // it ends and keeps what it holds
		t.Fatal(err)
	}
	list := records.taken()
	if len(list) != 2 || list[0].Count != 1 || list[1].Count != 499 {
		t.Errorf("recorded %+v", list)
	}
}

// Who follows the audit trail does not fill it.
func TestPolledCallsAreRecordedOnceAMinute(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t)
	h := b.Handler()
	poll := func(token string) {
		if a := call(t, h, http.MethodPost, api.Path(api.OpAudit), token, ""); a.Code != http.StatusOK {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	for range 50 {
		poll("admin:root")
	}
	poll("admin:audit")
	b.at(now.Add(time.Minute))
	poll("admin:root")
	var counts []int
	for _, e := range records.taken() {
		counts = append(counts, e.Count)
	}
	if !slices.Equal(counts, []int{1, 1, 50}) {
		t.Errorf("recorded with the counts %v", counts)
	}
}

// One identity cannot take the service from the others, nor fill the audit trail.
func TestCallsOfOneIdentityAreBounded(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t)
	h := b.Handler()
	path := api.Path(api.OpRevocations)
	for i := range 100 {
		if a := call(t, h, http.MethodPost, path, "admin:root", ""); a.Code != http.StatusOK {
			t.Fatalf("call %d: %d %s", i, a.Code, a.Body)
		}
	}
	for range 50 {
		a := call(t, h, http.MethodPost, path, "admin:root", "")
		if e := a.refused(t, http.StatusTooManyRequests, api.ReasonRateLimited); e.RetryAfter != 10 || a.Header().Get("Retry-After") != "10" {
			t.Fatalf("retry after %d", e.RetryAfter)
		}
	}
	if n := len(records.taken()); n != 101 {
		t.Errorf("%d entries of 150 calls, want 100 and one that stands for the others", n)
	}
	if a := call(t, h, http.MethodPost, path, "admin:revoke", ""); a.Code != http.StatusOK {
		t.Errorf("another identity: %d %s", a.Code, a.Body)
	}
	b.at(now.Add(10 * time.Second))
	if a := call(t, h, http.MethodPost, path, "admin:root", ""); a.Code != http.StatusOK {
		t.Errorf("later: %d %s", a.Code, a.Body)
	}
	for range 100 {
		if a := call(t, h, http.MethodPost, whoamiPath, "alice", ""); a.Code != http.StatusOK {
			t.Fatalf("whoami: %d %s", a.Code, a.Body)
		}
	}
	call(t, h, http.MethodPost, whoamiPath, "alice", "").refused(t, http.StatusTooManyRequests, api.ReasonRateLimited)
}
