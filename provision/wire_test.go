package provision_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

// wireOperator is the public key of a seed of zeros.
const wireOperator = "OA5WUJ54Z23KILLCUOUNAKTPBVZWKMQVO4O6EQ5GHLAERIMLLHNCSKTE"

// The answers of every operation are part of the wire contract. Golden files show them, and
// each field of each answer must be in one of them.
func TestWireContract(t *testing.T) {
	tradeKey := newKey(t)
	b := newBed(t, func(o *provision.Options) {
		o.Reload = func(context.Context) (api.Reloaded, error) {
			return api.Reloaded{Version: "v2", Changed: true, NeedRestart: []string{"http.listen"}, Warnings: []string{"plan gone is not in the configuration"}}, nil
		}
		o.Status = func() api.Status {
			return api.Status{
				Replica: "r1", Version: "0.1.0", Rules: "v1", NotReady: []string{"store: it does not answer"}, Warnings: []string{"server n1: a limit that it ignores"},
				Servers:  []api.ServerStatus{{ID: "NA", Name: "n1", Version: "2.12.0", ClockOffset: "12ms"}},
				Replicas: []api.ReplicaStatus{{Name: "r2", Serving: true, Silent: "212ms", Current: true}},
				Issuers: []api.IssuerStatus{
					{Name: "corp", URL: corp, KeysLoaded: true, LoadedAt: now},
					{Name: "partner", URL: partner, Error: "it answered 500"},
				},
				Claims:      api.ClaimsStatus{Unmanaged: "why", Resolver: "memory", Writer: true, Accounts: 2, Settled: 1, SelfService: 3, Waiting: 1, Unknown: []string{"A"}, Gone: []string{"B"}, Problems: []string{"account A: what"}},
				AuditStream: &api.AuditStreamStatus{Stream: "AUDIT", Copying: true, Copied: 17, Current: now, Error: "stream AUDIT is not there"},
			}
		}
		o.Tokens = tokens(func(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
			switch token {
			case "forged":
				return nil, policy.Refuse(policy.SignatureInvalid, "detail for operators")
			case "pending":
				return nil, policy.Refuse(policy.KeysUnavailable, "detail for operators")
			case "bound":
				id := person("alice")
				id.Claims["nonce"] = "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"
				return id, nil
			}
			id := person(token)
			if token == "job" {
				id.Issuer, id.IssuerURL = "jobs", jobs
			}
			return id, nil
		})
		o.Signer = newKey(t)
		o.Servers = &connected{unanswered: []string{"n3"}, list: sessions()}
		o.Template = func(account, key string) (policy.Permissions, bool) {
			set := policy.SubjectSet{Allow: []string{"jobs.{{tag(team)}}.>"}}
			return policy.Permissions{Publish: set, Subscribe: set}, account == "AAPP" && key == "AWORKER"
		}
		blocked := policy.Revocation{ID: "1", Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "mallory"}}, At: now, Until: now.Add(time.Minute)}
		o.State = func() *policy.Snapshot {
			r := rules(t)
			tag, err := policy.ParseTemplate("team:blue")
			if err != nil {
				t.Fatal(err)
			}
			r.Admins = map[string][]*policy.Binding{"corp": {{Name: "admins", Issuer: "corp", When: subject("carol"), Rights: []policy.Right{policy.RightRevoke, policy.RightAudit}}}}
			r.Bindings["jobs"] = []*policy.Binding{{Name: "batch-jobs", Issuer: "jobs", TTL: time.Hour, Grant: policy.Grant{
				Account: r.Accounts["APP"],
				Role: &policy.Role{Name: "worker", Scoped: &policy.ScopedKey{
					Key: "AWORKER", Account: r.Accounts["APP"], Tags: []policy.Template{tag},
				}},
			}}}
			own, err := policy.ParseNameTemplate("of-{{claim.sub}}")
			if err != nil {
				t.Fatal(err)
			}
			role := &policy.Role{Name: "app"}
			r.Plans = map[string]*policy.Plan{"free": {Name: "free", Roles: map[string]*policy.Role{"app": role}, TTL: time.Hour}}
			r.Creates = map[string][]*policy.Binding{"corp": {{
				Name: "homes", Issuer: "corp", When: subject("nina"), TTL: time.Hour, Create: &policy.Create{Plan: "free", Role: role, Name: own, Own: true},
			}}}
			loaded, err := o.Store.Load(t.Context())
			if err != nil {
				t.Error(err)
			}
			return &policy.Snapshot{Rules: r, Revocations: policy.NewRevocations([]policy.Revocation{blocked}), Accounts: directory(loaded.Accounts)}
		}
		o.Refresh = func(ctx context.Context) error { return applyAll(ctx, o.Store) }
		_, old := fixedRing(t, 1)
		sealing, _ := fixedRing(t, 2, old)
		o.Keys = &provision.Keys{
			Seal: func() *seal.Ring { return sealing }, Operator: func() string { return "OA5WUJ54" },
			Configured: func() []api.ConfiguredKey {
				return []api.ConfiguredKey{{Key: accountIDs[3], Path: "accounts.APP.signing_key[0]", Account: accountIDs[0]}}
			},
			Running: &provision.OperatorKeys{
				Trust: func(context.Context) ([]provision.OperatorTrust, error) {
					return []provision.OperatorTrust{{Server: "n1", Keys: []string{"OA5WUJ54", wireOperator}, Strict: true}, {Server: "n2"}}, nil
				},
				Signed: func(context.Context) ([]api.OperatorSigned, error) {
					return []api.OperatorSigned{{Key: wireOperator, Accounts: 2, Some: []string{"orders", "wanted"}}}, errors.New("server n3 did not say what it has")
				},
				Renew: func(context.Context) error { return nil },
			},
		}
		js := account.JetStream{Memory: 0, Disk: 1 << 30, Streams: 5, Consumers: account.NoLimit}
		o.Accounts = &provision.Accounts{
			Problem: func(string) string { return "server n1 keeps other claims of it" },
			Plans: func() map[string]*account.Plan {
				return map[string]*account.Plan{"free": {Name: "free", Roles: []string{"app"}, Limits: account.Limits{Connections: 20, Subscriptions: account.NoLimit, JetStream: &js}}}
			},
			Seal: func() *seal.Ring { return sealing },
			Keys: func() *mint.Keyring { return mint.NewKeyring(tradeKey) },
			Stored: func(context.Context, string) (provision.Stored, error) {
				return provision.Stored{Streams: 2, Bytes: 4096, Unanswered: []string{"n3"}}, nil
			},
		}
	})
	b.record(t,
		store.AuditEntry{
			ID: "01970000-0000-7000-8000-000000000001", At: now.Add(-2 * time.Hour), Kind: store.LoginEntry, Outcome: "refused", Reason: "no_binding", Detail: "no binding matches the claims",
			Issuer: corp, Subject: "mallory", Name: "corp-mallory", Display: map[string]string{"email": "mallory@example.com"}, TokenID: "jti",
			SessionID: "sid", Issued: now.Add(-3 * time.Hour),
			Claims: json.RawMessage(`{"groups":["none"],"level":1.50}`), Asked: "APP",
			ServerID: "NA", ServerName: "n1", CID: 42, UserKey: "UA", Source: "192.0.2.7", ConnType: "standard", Client: "go 1.48",
			Replica: "r1", Rules: "v0", Count: 3,
		},
		store.AuditEntry{
			ID: "01970000-0000-7000-8000-000000000002", At: now.Add(-time.Hour), Kind: store.LoginEntry, Outcome: "allowed", Reason: "allowed",
			Issuer: corp, Subject: "alice", Name: "corp-alice", Account: "APP", Roles: []string{"app"}, Bindings: []string{"developers"}, Expires: now,
			Replica: "r1", Rules: "v1", ClaimsCut: true,
		},
		store.AuditEntry{
			ID: "01970000-0000-7000-8000-000000000003", At: now.Add(-time.Minute), Kind: store.AdminEntry, Outcome: "done", Reason: "left",
			Issuer: corp, Subject: "carol", Actor: "local:admin", Op: "revoke", Target: "01970000-0000-7000-8000-000000000009",
		},
	)
	suspension := store.Revocation{Reason: "unpaid", Actor: "local:admin", Revocation: policy.Revocation{
		ID: "01970000-0000-7000-8000-00000000000a", Kind: policy.Suspension, Target: policy.Target{Account: "AOPS"}, At: now,
	}}
	b.carriedOut(t, suspension, api.Progress{Done: true, Replicas: 2, ReplicasKnown: 3, ReplicasMissing: []string{"r3"}, ServersAnswered: 2, ServersKnown: 3,
		ServersMissing: []string{"n3"}, Closed: 7, Left: 1, Claims: "server n3 has not applied them", TookMS: 2153})
	for _, k := range []store.UserKey{
		{Key: directKey, Account: "APP", AccountID: "AAPP", Issuer: corp, Subject: "alice", Name: "prog-nightly-1", Program: "nightly", Issued: now.Add(-time.Hour), Expires: now.Add(time.Hour)},
	} {
		if err := b.Store.AddUserKey(t.Context(), k, 3); err != nil {
			t.Fatal(err)
		}
	}
	b.saveFullAccounts(t)
	b.saveTraders(t, tradeKey)
	lost, _ := fixedRing(t, 9)
	kept := store.SealedKey{Public: wireOperator, Account: store.OfOperator}
	kept.Box = lost.Seal([]byte("seed"), kept.Row())
	if err := b.Store.SetOperatorKey(t.Context(), &kept, store.AuditEntry{ID: "01970000-0000-7000-8000-0000000000f1", At: now.Add(-100 * time.Hour), Kind: store.AdminEntry, Outcome: "done", Op: api.OpOperatorKeyImport}); err != nil {
		t.Fatal(err)
	}
	path := serveLocal(t, b)
	shown, unseen := map[field]bool{}, map[string]bool{}
	for _, op := range operations(t) {
		// Sign-up has its own tests, and those of others' accounts need servers: cmd/gatehouse/adopt_test.go.
		unseen[op] = op != api.OpUserSignup && op != api.OpAccountAdopt && op != api.OpAccountHandover && op != api.OpAccountPreload
	}
	for _, test := range []struct {
		name, op, token, body string
		code                  int
		into                  any
	}{
		{"whoami_allowed", api.OpWhoami, "alice", `{"account":"APP"}`, 200, &api.Whoami{}},
		{"whoami_bound", api.OpWhoami, "bound", "", 200, &api.Whoami{}},
		{"whoami_creates", api.OpWhoami, "nina", `{"account":"of-nina"}`, 200, &api.Whoami{}},
		{"whoami_scoped", api.OpWhoami, "job", "", 200, &api.Whoami{}},
		{"explain_scoped", api.OpExplain, "", `{"token":"job"}`, 200, &api.Explanation{}},
		{"whoami_admin", api.OpWhoami, "admin:carol", "", 200, &api.Whoami{}},
		{"whoami_admin_without_rights", api.OpWhoami, "admin:alice", "", 200, &api.Whoami{}},
		{"explain_admin", api.OpExplain, "", `{"token":"carol"}`, 200, &api.Explanation{}},
		{"whoami_refused", api.OpWhoami, "mallory", "", 200, &api.Whoami{}},
		{"error_token", api.OpWhoami, "forged", "", 401, &api.Error{}},
		{"error_again", api.OpWhoami, "pending", "", 503, &api.Error{}},
		{"error_request", api.OpRevoke, "", `{"kind":"ban"}`, 400, &api.Error{}},
		{"explain", api.OpExplain, "", `{"token":"alice","source":"192.0.2.1"}`, 200, &api.Explanation{}},
		{"explain_bound", api.OpExplain, "", `{"token":"bound"}`, 200, &api.Explanation{}},
		{"explain_refused", api.OpExplain, "", `{"token":"mallory"}`, 200, &api.Explanation{}},
		{"explain_subject", api.OpExplain, "", `{"subject":"mallory@example.com"}`, 200, &api.Explanation{}},
		{"error_unseen", api.OpExplain, "", `{"subject":"nobody"}`, 404, &api.Error{}},
		// Pages before anything is revoked, whose audit entries bear the time of day.
		{"audit", api.OpAudit, "", `{"limit":2}`, 200, &api.AuditPage{}},
		{"audit_refused", api.OpAudit, "", `{"outcome":"refused"}`, 200, &api.AuditPage{}},
		{"audit_by_arrival", api.OpAudit, "", `{"order":"arrival","limit":1}`, 200, &api.AuditPage{}},
		{"audit_empty", api.OpAudit, "", `{"name":"nobody"}`, 200, &api.AuditPage{}},
		{"revoke_dry", api.OpRevoke, "", `{"issuer":"corp","subject":"alice","reason":"left","dry_run":true}`, 200, &api.RevokeResult{}},
		{"revoke", api.OpRevoke, "", `{"issuer":"corp","subject":"alice","reason":"left","until":"2030-12-31T23:59:59Z"}`, 200, &api.RevokeResult{}},
		{"revoke_existing", api.OpRevoke, "", `{"issuer":"corp","subject":"alice","reason":"again","until":"2030-12-31T23:59:59Z"}`, 200, &api.RevokeResult{}},
		{"revoke_logout", api.OpRevoke, "", `{"kind":"logout","issuer":"partner","subject":"bob","reason":"lost laptop"}`, 200, &api.RevokeResult{}},
		{"revoke_programs", api.OpRevoke, "", `{"issuer":"corp","subject":"carol","programs":true,"reason":"left"}`, 200, &api.RevokeResult{}},
		{"revoke_session", api.OpRevoke, "", `{"kind":"logout","issuer":"corp","session":"s-1","reason":"left a browser open"}`, 200, &api.RevokeResult{}},
		{"revoke_token", api.OpRevoke, "", `{"kind":"logout","issuer":"corp","token":"t-1","reason":"seen in a log"}`, 200, &api.RevokeResult{}},
		{"revoke_match", api.OpRevoke, "", `{"issuer":"corp","match":{"groups":["contractors"],"level":[1.50]},"account":"APP","reason":"contract ended"}`, 200, &api.RevokeResult{}},
		{"revoke_activation", api.OpRevoke, "", `{"kind":"activation","account":"APP","export":"app.status.*","key":"AA5WUJ54Z23KILLCUOUNAKTPBVZWKMQVO4O6EQ5GHLAERIMLLHNCS47C","reason":"partner left","dry_run":true}`, 200, &api.RevokeResult{}},
		{"revocations_done", api.OpRevocations, "", `{"kind":"suspension"}`, 200, &api.RevocationsPage{}},
		{"progress", api.OpProgress, "", `{"id":"01970000-0000-7000-8000-00000000000a"}`, 200, &api.Progress{}},
		{"sessions", api.OpSessions, "", `{"account":"APP","limit":2}`, 200, &api.SessionsPage{}},
		{"sessions_empty", api.OpSessions, "", `{"subject":"nobody"}`, 200, &api.SessionsPage{}},
		{"kick", api.OpKick, "", `{"subject":"alice","issuer":"corp","reason":"new permissions"}`, 200, &api.KickResult{}},
		{"identities", api.OpIdentities, "", `{"display":"Mallory@Example.com"}`, 200, &api.IdentitiesPage{}},
		{"identities_empty", api.OpIdentities, "", `{"subject":"nobody","limit":1}`, 200, &api.IdentitiesPage{}},
		{"identities_page", api.OpIdentities, "", `{"limit":1}`, 200, &api.IdentitiesPage{}},
		{"lift", api.OpRevokeLift, "", `{"issuer":"corp","subject":"alice","reason":"back"}`, 200, &api.LiftResult{}},
		{"revocations", api.OpRevocations, "", `{"all":true,"limit":1}`, 200, &api.RevocationsPage{}},
		{"revocations_empty", api.OpRevocations, "", `{"subject":"nobody"}`, 200, &api.RevocationsPage{}},
		{"account_signup", api.OpAccountSignup, "", `{"name":"orders","plan":"free","owner":{"issuer":"corp","subject":"alice"}}`, 200, &api.AccountSignup{}},
		{"account_get", api.OpAccountGet, "", `{"account":"orders"}`, 200, &api.Account{}},
		{"account_get_member", api.OpAccountGet, "alice", `{"account":"full"}`, 200, &api.Account{}},
		{"account_list", api.OpAccountList, "", `{"limit":1}`, 200, &api.AccountsPage{}},
		{"account_update", api.OpAccountUpdate, "", `{"account":"requested","revision":1,"tags":["eu"],"limits":{"tiers":{"R3":{"memory":0,"disk":1073741824,"streams":5,"consumers":-1}}}}`, 200, &api.Account{}},
		{"audit_account", api.OpAudit, "", `{"op":"account.update","outcome":"done"}`, 200, &api.AuditPage{}},
		{"error_changed", api.OpAccountUpdate, "", `{"account":"requested","revision":1,"description":"mine"}`, 409, &api.Error{}},
		{"account_rename", api.OpAccountRename, "", `{"account":"requested","revision":2,"name":"wanted"}`, 200, &api.Account{}},
		{"account_approve", api.OpAccountApprove, "", `{"account":"wanted"}`, 200, &api.Account{}},
		{"error_state", api.OpAccountReject, "", `{"account":"wanted","reason":"no team"}`, 409, &api.Error{}},
		{"account_reject", api.OpAccountReject, "", `{"account":"unwanted","reason":"no team"}`, 200, &api.Account{}},
		{"account_suspend", api.OpAccountSuspend, "", `{"account":"wanted","reason":"unpaid"}`, 200, &api.Account{}},
		{"account_resume", api.OpAccountResume, "", `{"account":"wanted","reason":"paid"}`, 200, &api.Account{}},
		{"account_delete", api.OpAccountDelete, "", `{"account":"full","dry_run":true}`, 200, &api.AccountDeletion{}},
		{"error_has_data", api.OpAccountDelete, "", `{"account":"full"}`, 409, &api.Error{}},
		{"account_delete_done", api.OpAccountDelete, "", `{"account":"full","with_data":true,"grace":"24h"}`, 200, &api.AccountDeletion{}},
		{"account_undelete", api.OpAccountUndelete, "", `{"account":"full"}`, 200, &api.Account{}},
		{"member_add", api.OpMemberAdd, "", `{"account":"orders","role":"app","issuer":"corp","match":{"groups":["orders"]},"until":"2030-12-31T23:59:59Z"}`, 200, &api.Member{}},
		{"member_invite", api.OpMemberInvite, "", `{"account":"orders","role":"app","email":"Bob@example.com"}`, 200, &api.MemberInvitation{}},
		{"member_add_owner", api.OpMemberAdd, "", `{"account":"orders","role":"owner","issuer":"corp","subject":"carol"}`, 200, &api.Member{}},
		{"member_accept", api.OpMemberAccept, "carol", `{"account":"orders"}`, 200, &api.Membership{}},
		{"error_invitation", api.OpMemberAccept, "carol", `{"account":"orders","secret":"guessed"}`, 403, &api.Error{}},
		{"keys_operator_problem", api.OpOperatorKey, "", ``, 200, &api.OperatorKey{}},
		{"keys_operator_import", api.OpOperatorKeyImport, "", `{"seed":"SOAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAF7TI"}`, 200, &api.OperatorKey{}},
		{"keys_operator", api.OpOperatorKey, "", ``, 200, &api.OperatorKey{}},
		{"keys_operator_remove", api.OpOperatorKeyRemove, "", `{"reason":"in a file"}`, 200, &api.OperatorKey{}},
		{"keys_list_account", api.OpKeysList, "", `{"account":"rotated"}`, 200, &api.KeysPage{}},
		{"keys_reseal", api.OpKeysReseal, "", ``, 200, &api.Resealed{}},
		{"account_rotate_preview", api.OpAccountRotate, "", `{"account":"rotated","now":true,"dry_run":true}`, 200, &api.Rotation{}},
		{"account_rotate", api.OpAccountRotate, "", `{"account":"rotated","now":true,"reason":"it leaked"}`, 200, &api.Rotation{}},
		{"keys_list", api.OpKeysList, "", `{"limit":1}`, 200, &api.KeysPage{}},
		{"member_list", api.OpMemberList, "", `{"account":"orders","limit":1}`, 200, &api.MembersPage{}},
		{"member_remove", api.OpMemberRemove, "", `{"account":"wanted","id":"01970000-0000-7000-8000-0000000000b1"}`, 200, &api.MemberRemoval{}},
		{"exchange_set", api.OpAccountExchangeSet, "", `{"account":"z-exporter","revision":1,"exports":[{"name":"ask","subject":"ask.*","type":"service","private":true,"response":"Stream","description":"what is in stock"}],"imports":[]}`, 200, &api.AccountExchange{}},
		{"export_add", api.OpAccountExportAdd, "", `{"account":"z-exporter","export":{"name":"feed","subject":"ask.>","type":"stream"}}`, 200, &api.AccountExchange{}},
		{"activate", api.OpAccountActivate, "", `{"account":"z-exporter","export":"ask","importer":"z-importer","until":"2030-12-31T23:59:59Z"}`, 200, &api.Activation{}},
		{"exchange_activations", api.OpAccountExchange, "", `{"account":"z-exporter"}`, 200, &api.AccountExchange{}},
		{"import_add", api.OpAccountImportAdd, "", `{"account":"z-importer","import":{"name":"eu","account":"z-exporter","subject":"ask.eu","local":"eu.ask","type":"service","share":true}}`, 200, &api.AccountExchange{}},
		{"error_exchange", api.OpAccountImportAdd, "", `{"account":"z-importer","import":{"name":"tell","account":"z-exporter","subject":"tell","type":"service"}}`, 409, &api.Error{}},
		{"exchange", api.OpAccountExchange, "", `{"account":"z-importer"}`, 200, &api.AccountExchange{}},
		{"graph", api.OpAccountGraph, "", "", 200, &api.AccountGraph{}},
		{"error_cuts", api.OpAccountExportRemove, "", `{"account":"z-exporter","name":"ask"}`, 409, &api.Error{}},
		{"export_remove", api.OpAccountExportRemove, "", `{"account":"z-exporter","name":"ask","cut":true}`, 200, &api.AccountExchange{}},
		{"import_remove", api.OpAccountImportRemove, "", `{"account":"z-importer","name":"eu"}`, 200, &api.AccountExchange{}},
		{"error_no_account", api.OpAccountGet, "dora", `{"account":"orders"}`, 404, &api.Error{}},
		{"admin_token", api.OpAdminToken, "", `{"rights":["revoke","audit"],"reason":"the provider is down","ttl":"5m"}`, 200, &api.AdminToken{}},
		{"reload", api.OpReload, "", "", 200, &api.Reloaded{}},
		{"status", api.OpStatus, "", "", 200, &api.Status{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, body, err := post(path, test.op, test.token, test.body)
			if err != nil || code != test.code {
				t.Fatalf("%d %s, %v", code, body, err)
			}
			strict := json.NewDecoder(bytes.NewReader(body))
			strict.DisallowUnknownFields()
			if err := strict.Decode(test.into); err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := json.Unmarshal(body, &tree); err != nil {
				t.Fatal(err)
			}
			note(t, shown, reflect.TypeOf(test.into), tree)
			conforms(t, test.op, test.body, code, body)
			delete(unseen, test.op)
			golden(t, test.name, body)
		})
	}
	for op, is := range unseen {
		if is {
			t.Errorf("there is no example of %s", op)
		}
	}
	for f, is := range shown {
		if !is {
			t.Errorf("no golden file shows %s of %s", f.name, f.of)
		}
	}
}

// rotatedID is the account whose key is rotated.
const rotatedID = "AADQQCIKBMGA2DQPCAIREEYUCULBOGAZDINRYHI6D4QCCIRDEQSSMOSX"

// fixedRing returns a ring of a key that is the same in every run.
func fixedRing(t testing.TB, fill byte, others ...*seal.Key) (*seal.Ring, *seal.Key) {
	t.Helper()
	k, err := seal.ParseKey([]byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, seal.KeySize))))
	if err != nil {
		t.Fatal(err)
	}
	return seal.NewRing(k, others...), k
}

// saveFullAccounts stores the accounts full, in which everything is set that can be, requested and unwanted.
func (b *bed) saveFullAccounts(t *testing.T) {
	t.Helper()
	alice := account.Person{Principal: policy.Principal{Issuer: corp, Subject: "alice"}, Name: "corp-alice"}
	ten := int64(10)
	full := account.Account{
		ID: accountIDs[0], Name: "full", Plan: "free", State: account.Active, Revision: 1, Applied: 1, Owner: alice, Description: "all of it", Tags: []string{"eu"},
		Limits: &account.LimitsPatch{Connections: &ten}, Created: now, Updated: now,
		Keys:    []account.SigningKey{{Public: accountIDs[3], Stage: account.Leaving, Since: now, Until: now.Add(time.Hour)}},
		Members: []account.Member{{ID: "01970000-0000-7000-8000-0000000000b0", Role: account.OwnerRole, Person: alice, Accepted: now, By: "corp-alice"}},
	}
	requested := account.Account{
		ID: accountIDs[1], Name: "requested", Plan: "free", State: account.Requested, Revision: 1, Owner: alice, Created: now, Updated: now,
		Members: []account.Member{full.Members[0], {
			ID: "01970000-0000-7000-8000-0000000000b1", Role: "app", Person: account.Person{Principal: policy.Principal{Issuer: corp, Subject: "bob"}, Name: "corp-bob"}, Accepted: now, By: "corp-alice",
		}},
	}
	unwanted := requested
	unwanted.ID, unwanted.Name, unwanted.Plan = accountIDs[2], "unwanted", "gone"
	rotated := full
	rotated.ID, rotated.Name, rotated.Keys = rotatedID, "rotated", []account.SigningKey{{Public: accountIDs[2], Stage: account.Current, Since: now}}
	for i, a := range []account.Account{full, requested, unwanted, rotated} {
		entry := store.AuditEntry{ID: "01960000-0000-7000-8000-00000000000" + strconv.Itoa(i), At: now.Add(-24 * time.Hour), Kind: store.AdminEntry, Op: api.OpAccountSignup, Outcome: "done"}
		change := store.AccountChange{Account: a, Entry: entry}
		if a.ID == rotatedID {
			old, _ := fixedRing(t, 1)
			lost, _ := fixedRing(t, 3)
			change.Keys = []store.SealedKey{{Public: accountIDs[2], Account: a.ID, Box: lost.Seal([]byte("seed"), "signing key "+accountIDs[2])}}
			for i := range 250 { // more than one call seals anew
				row := store.SealedKey{Public: fmt.Sprintf("AZZ%03d", i), Account: a.ID}
				row.Box = old.Seal([]byte("seed"), row.Row())
				change.Keys = append(change.Keys, row)
			}
		}
		if _, err := b.Store.SaveAccount(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Store.AddUserKey(t.Context(), store.UserKey{
		Key: directKey, Account: "requested", AccountID: accountIDs[1], Issuer: corp, Subject: "bob", Name: "corp-bob", Issued: now.Add(-time.Hour), Expires: now.Add(time.Hour),
	}, 3); err != nil {
		t.Fatal(err)
	}
}

// saveTraders stores the accounts z-exporter, whose signing key is given, and z-importer.
func (b *bed) saveTraders(t *testing.T, key *mint.Key) {
	t.Helper()
	ten := int64(10)
	exporter := account.Account{
		ID: accountIDs[4], Name: "z-exporter", Plan: "free", State: account.Active, Revision: 1, Applied: 1, Created: now, Updated: now,
		Limits: &account.LimitsPatch{Exports: &ten, Imports: &ten}, Keys: []account.SigningKey{{Public: key.Public(), Stage: account.Current, Since: now}},
		Exports: []account.Export{{Name: "ask", Subject: "ask.*", Type: account.ServiceType, Private: true}},
	}
	importer := exporter
	importer.ID, importer.Name, importer.Keys, importer.Exports = accountIDs[5], "z-importer", nil, nil
	token, err := account.ActivationClaims(&exporter, &exporter.Exports[0], importer.ID, now.Add(time.Hour)).Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	importer.Imports = []account.Import{{Name: "all", Account: exporter.ID, Subject: "ask.*", Local: "all.ask.*", Type: account.ServiceType, Token: token}}
	for i, a := range []account.Account{exporter, importer} {
		entry := store.AuditEntry{ID: "01960000-0000-7000-8000-00000000001" + strconv.Itoa(i), At: now.Add(-24 * time.Hour), Kind: store.AdminEntry, Op: api.OpAccountSignup, Outcome: "done"}
		if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: a, Entry: entry}); err != nil {
			t.Fatal(err)
		}
	}
}

// carriedOut stores a revocation with the end of its progress.
func (b *bed) carriedOut(t *testing.T, r store.Revocation, p api.Progress) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Store.Revoke(t.Context(), r, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Store.SaveProgress(t.Context(), r.ID, text, true); err != nil {
		t.Fatal(err)
	}
}

// golden compares an answer with the golden file of that name; what differs from run to run is
// made equal.
func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, body, "", "  "); err != nil {
		t.Fatal(err)
	}
	got := uuids.ReplaceAllString(indented.String(), "00000000-0000-0000-0000-000000000000")
	got = secrets.ReplaceAllString(got, `"token": "…"`)
	got = invitations.ReplaceAllString(got, `"secret": "…"`)
	got = publicKeys.ReplaceAllStringFunc(got, func(key string) string { // those that are made
		if slices.Contains(accountIDs, key) || strings.HasPrefix(key, "AA5WUJ54") {
			return key
		}
		return "A…"
	})
	got = updated.ReplaceAllString(got, `"updated": "2030-05-06T07:08:11Z"`) // by the store's clock, once it is applied
	got = cursors.ReplaceAllString(got, `"cursor": "…"`)
	got = doneAt.ReplaceAllString(got, `"done_at": "2030-05-06T07:08:11Z"`) // by the store's clock
	got = strings.ReplaceAll(got, provision.LocalActor(os.Getuid()), "local:somebody")
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v: make it with go test -run TestWireContract -update", err)
	}
	if diff := cmp.Diff(string(want), got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

var (
	uuids       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	secrets     = regexp.MustCompile(`"token": "[^"]+"`)
	invitations = regexp.MustCompile(`"secret": "[^"]+"`)
	publicKeys  = regexp.MustCompile(`A[A-Z2-7]{55}`)
	updated     = regexp.MustCompile(`"updated": "[^"]+"`)
	cursors     = regexp.MustCompile(`"cursor": "[^"]+"`)
	doneAt      = regexp.MustCompile(`"done_at": "[^"]+"`)
)

// field is a field of a type that answers are made of, by its name in JSON.
type field struct {
	of   reflect.Type
	name string
}

// note takes down all fields of a type, and which of them are there in a JSON value of it.
func note(t *testing.T, shown map[field]bool, typ reflect.Type, v any) {
	t.Helper()
	switch {
	case typ.Kind() == reflect.Pointer:
		note(t, shown, typ.Elem(), v)
	case typ.Kind() == reflect.Slice:
		list, _ := v.([]any)
		for _, element := range list {
			note(t, shown, typ.Elem(), element)
		}
		if len(list) == 0 {
			note(t, shown, typ.Elem(), nil)
		}
	case typ.Kind() == reflect.Struct && typ != reflect.TypeFor[time.Time]():
		object, _ := v.(map[string]any)
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous {
				note(t, shown, f.Type, v)
				continue
			}
			if name == "" {
				t.Errorf("%s of %s has no name in JSON", f.Name, typ)
			}
			if name != "-" {
				value, is := object[name]
				shown[field{typ, name}] = shown[field{typ, name}] || is
				note(t, shown, f.Type, value)
			}
		}
	}
}
