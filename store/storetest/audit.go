package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var auditTests = map[string]func(*testing.T, store.Store){
	"EveryFieldIsKept":          testAuditFields,
	"RecordAgain":               testRecordAgain,
	"RecordManyAndPage":         testRecordMany,
	"RecordTakesWhateverItGets": testRecordAnything,
	"AuditFilters":              testAuditFilters,
	"AuditPagesAreStable":       testAuditPages,
	"PrincipalNames":            testNames,
	"PruneAudit":                testPruneAudit,
	"NameOfAProgram":            testNameOfAProgram,
}

func testAuditFields(t *testing.T, s store.Store) {
	e := store.AuditEntry{
		ID: newID(), At: base, Kind: store.LoginEntry, Outcome: "refused", Reason: "blocked", Detail: "blocked by x",
		Issuer: issuer, Subject: "alice", Name: "corp-alice", TokenID: "jti",
		SessionID: "sid", Issued: base.Add(-time.Minute),
		Display: map[string]string{"email": "alice@example.com", "name": "Alice"},
		Claims:  json.RawMessage(`{"groups":["dev","\u0000\\"],"realm":{"level":1e999999,"none":null}}`), ClaimsCut: true, Asked: "OPS",
		Account: "APP", Roles: []string{"z", "app"}, Bindings: []string{"developers"}, Expires: base.Add(time.Hour),
		ServerID: "NA", ServerName: "n1", CID: math.MaxUint64, UserKey: "UA", Source: "10.0.0.1", ConnType: "standard", Client: "nats.go",
		Actor: "root", Op: "op", Target: "target", Revision: math.MaxInt64, State: "active", Replica: "r1", Rules: "v1", Count: 17,
	}
	record(t, s, e)
	plain := login("bob")
	plain.At = base.Add(time.Hour)
	record(t, s, plain)
	list, err := allAudit(t.Context(), s, store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.AuditEntry{plain, e}, list); diff != "" {
		t.Error(diff)
	}
}

// InsertOf0001 is a login as the release inserts it that has the first migration alone, with a
// time as SQLite keeps it.
const InsertOf0001 = `INSERT INTO audit (id, at, kind, outcome, reason, detail,
	issuer, subject, name, display, token_id, account, roles, bindings, expires,
	server_id, server_name, cid, user_key, source, connection_type, client,
	actor, op, target, replica, rules, count)
	VALUES ('0197b3c0', 1800000000000000, 'login', 'allowed', 'allowed', '',
	'https://login.example.com', 'alice', 'corp-alice', NULL, '', 'APP', NULL, NULL, NULL,
	'', '', 0, '', '', '', '', '', '', '', '', '', 0)`

func testRecordAgain(t *testing.T, s store.Store) {
	first, second := login("alice"), login("bob")
	record(t, s, first)
	changed := first
	changed.Reason = "changed"
	record(t, s, changed, second, second)
	record(t, s)
	list, err := allAudit(t.Context(), s, store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.AuditEntry{second, first}, list); diff != "" {
		t.Error(diff)
	}
}

func testRecordMany(t *testing.T, s store.Store) {
	var want []string
	for range 5 {
		batch := make([]store.AuditEntry, 500)
		for i := range batch {
			batch[i] = login(fmt.Sprintf("subject-%d", i))
			want = append(want, batch[i].ID)
		}
		record(t, s, batch...)
	}
	slices.Reverse(want)
	page, next, err := s.Audit(t.Context(), store.AuditFilter{Limit: 1_000_000})
	if err != nil || len(page) != store.MaxPage || next == "" {
		t.Fatalf("a page of %d, next %q, %v", len(page), next, err)
	}
	list, err := allAudit(t.Context(), s, store.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if got := auditIDs(list); !slices.Equal(got, want) {
		t.Errorf("%d entries came back, not the %d in their order", len(got), len(want))
	}
}

// testRecordAnything holds the store to the rule that no entry can block those behind it.
func testRecordAnything(t *testing.T, s store.Store) {
	text := rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
		rapid.SampledFrom(slices.Collect(func(yield func(string) bool) {
			for _, odd := range oddTexts {
				if !yield(odd) {
					return
				}
			}
		})),
	)
	texts := rapid.Map(rapid.SliceOfN(text, 0, 3), func(l []string) []string {
		if len(l) == 0 {
			return nil
		}
		return l
	})
	times := rapid.Map(rapid.Int64Range(-1<<50, 1<<53), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
	rapid.Check(t, func(rt *rapid.T) {
		e := login(text.Draw(rt, "subject"))
		e.At = times.Draw(rt, "at")
		e.Outcome, e.Reason, e.Detail = text.Draw(rt, "outcome"), text.Draw(rt, "reason"), text.Draw(rt, "detail")
		e.Issuer, e.Name, e.TokenID = text.Draw(rt, "issuer"), "."+text.Draw(rt, "name"), text.Draw(rt, "jti") // no name of somebody else
		if m := rapid.MapOfN(text, text, 0, 3).Draw(rt, "display"); len(m) > 0 {
			e.Display = m
		}
		if rapid.Bool().Draw(rt, "has claims") {
			e.Claims, _ = json.Marshal(map[string]any{text.Draw(rt, "claim"): text.Draw(rt, "value")})
		}
		e.ClaimsCut, e.Asked = rapid.Bool().Draw(rt, "cut"), text.Draw(rt, "asked")
		e.SessionID, e.ServerID = text.Draw(rt, "sid"), text.Draw(rt, "server")
		e.Issued = times.Draw(rt, "issued")
		e.Roles, e.Bindings = texts.Draw(rt, "roles"), texts.Draw(rt, "bindings")
		e.Source, e.Client, e.Actor = text.Draw(rt, "source"), text.Draw(rt, "client"), text.Draw(rt, "actor")
		e.CID, e.Count = rapid.Uint64().Draw(rt, "cid"), rapid.Int().Draw(rt, "count")
		if err := s.Record(t.Context(), []store.AuditEntry{e}); err != nil {
			rt.Fatal(err)
		}
		list, err := allAudit(t.Context(), s, store.AuditFilter{
			ID: e.ID, Reason: e.Reason, Name: e.Name, Actor: e.Actor, Outcome: e.Outcome, Session: e.SessionID,
			Principal: policy.Principal{Issuer: e.Issuer, Subject: e.Subject},
		})
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff([]store.AuditEntry{e}, list); diff != "" {
			rt.Fatal(diff)
		}
	})
	e := login("the future")
	e.Expires = time.Unix(math.MaxInt64/4, 0)
	record(t, s, e)
}

func testAuditFilters(t *testing.T, s store.Store) {
	alice := login("alice")
	alice.Name, alice.Account, alice.SessionID = "corp-alice", "APP", "s1"
	refused := login("alice")
	refused.Outcome, refused.Reason = "refused", "blocked"
	other := login("alice")
	other.Issuer = "https://other.example.com"
	other.Claims = json.RawMessage(`{"groups":["dev"]}`)
	other.Display = map[string]string{"email": `al\ice`, "name": "Alice"}
	admin := login("")
	admin.Issuer, admin.Kind, admin.Actor, admin.Outcome, admin.Op = "", store.AdminEntry, "root", "done", "revoke"
	suspended := done("account.suspend", "AID", admin.At.Add(time.Second))
	suspended.Account = "FORMER"
	revoked := done("revoke", "key UKEY, account AID", admin.At.Add(2*time.Second))
	blocked := done("revoke", "mallory, account AID, issuer "+issuer, admin.At.Add(3*time.Second))
	kicked := done("kick", "name corp-alice, account APP", admin.At.Add(4*time.Second))
	elsewhere := done("revoke", "account AID2, account XAID, AID", admin.At.Add(5*time.Second))
	acts := []store.AuditEntry{elsewhere, kicked, blocked, revoked, suspended, admin}
	all := []store.AuditEntry{alice, refused, other, admin, suspended, revoked, blocked, kicked, elsewhere}
	record(t, s, all...)

	for name, c := range map[string]struct {
		filter store.AuditFilter
		want   []store.AuditEntry // newest first
	}{
		"all":       {store.AuditFilter{}, append(slices.Clone(acts), other, refused, alice)},
		"id":        {store.AuditFilter{ID: other.ID}, []store.AuditEntry{other}},
		"kind":      {store.AuditFilter{Kind: store.AdminEntry}, acts},
		"outcome":   {store.AuditFilter{Outcome: "refused"}, []store.AuditEntry{refused}},
		"reason":    {store.AuditFilter{Reason: "blocked"}, []store.AuditEntry{refused}},
		"subject":   {store.AuditFilter{Principal: policy.Principal{Subject: "alice"}}, []store.AuditEntry{other, refused, alice}},
		"issuer":    {store.AuditFilter{Principal: policy.Principal{Issuer: issuer}}, []store.AuditEntry{refused, alice}},
		"identity":  {store.AuditFilter{Principal: policy.Principal{Issuer: other.Issuer, Subject: "alice"}}, []store.AuditEntry{other}},
		"name":      {store.AuditFilter{Name: "corp-alice"}, []store.AuditEntry{alice}},
		"session":   {store.AuditFilter{Session: "s1"}, []store.AuditEntry{alice}},
		"account":   {store.AuditFilter{Account: "APP"}, []store.AuditEntry{kicked, alice}},
		"its id":    {store.AuditFilter{AccountID: "AID"}, []store.AuditEntry{blocked, revoked, suspended}},
		"both":      {store.AuditFilter{Account: "APP", AccountID: "AID"}, []store.AuditEntry{kicked, blocked, revoked, suspended, alice}},
		"and more":  {store.AuditFilter{Account: "APP", AccountID: "AID", Op: "revoke"}, []store.AuditEntry{blocked, revoked}},
		"claims":    {store.AuditFilter{Claims: true}, []store.AuditEntry{other}},
		"display":   {store.AuditFilter{Display: `al\ice`}, []store.AuditEntry{other}},
		"no key":    {store.AuditFilter{Display: "email"}, nil},
		"actor":     {store.AuditFilter{Actor: "root"}, []store.AuditEntry{admin}},
		"op":        {store.AuditFilter{Op: "revoke"}, []store.AuditEntry{elsewhere, blocked, revoked, admin}},
		"since":     {store.AuditFilter{Since: other.At}, append(slices.Clone(acts), other)},
		"before":    {store.AuditFilter{Before: other.At}, []store.AuditEntry{refused, alice}},
		"together":  {store.AuditFilter{Since: refused.At, Before: admin.At, Outcome: "allowed"}, []store.AuditEntry{other}},
		"not there": {store.AuditFilter{Reason: "Blocked"}, nil},
	} {
		for _, limit := range []int{0, 1, 2} {
			c.filter.Limit = limit
			list, err := allAudit(t.Context(), s, c.filter)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(auditIDs(list), auditIDs(c.want)) {
				t.Errorf("%s, by %d: got %v, want %v", name, limit, auditIDs(list), auditIDs(c.want))
			}
		}
	}
}

// done is an act of an admin on a target.
func done(op, target string, at time.Time) store.AuditEntry {
	e := login("")
	e.Issuer, e.Kind, e.Actor, e.Outcome, e.Op, e.Target, e.At = "", store.AdminEntry, "gatehouse", "done", op, target, at
	return e
}

func auditIDs(list []store.AuditEntry) (ids []string) {
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

// testNames: entries and identities are found by the principal name, however their subject is written in it.
func testNames(t *testing.T, s store.Store) {
	for _, subject := range []string{"alice", "a-b_C", "auth0|17", "a=41", "\x00\xff\\", strings.Repeat("long ", 40), strings.Repeat("long ", 39) + "other"} {
		e, other := login(subject), login(subject)
		e.Name, other.Name, other.Issuer = policy.PrincipalName("corp", subject), policy.PrincipalName("other", subject), "https://other.example.com"
		record(t, s, e, other)
		list, err := allAudit(t.Context(), s, store.AuditFilter{Name: e.Name})
		if err != nil || !slices.Equal(auditIDs(list), []string{e.ID}) {
			t.Errorf("%q: %v, %v", e.Name, auditIDs(list), err)
		}
		if found := known(t, s, store.IdentityFilter{Name: e.Name}); len(found) != 1 || found[subject+" "+e.Issuer].Name != e.Name {
			t.Errorf("%q: %v", e.Name, found)
		}
	}
	odd := login("alice")
	odd.Name = "not one that we made"
	record(t, s, odd)
	if list, err := allAudit(t.Context(), s, store.AuditFilter{Name: odd.Name}); err != nil || !slices.Equal(auditIDs(list), []string{odd.ID}) {
		t.Errorf("%q: %v, %v", odd.Name, auditIDs(list), err)
	}
}

func testAuditPages(t *testing.T, s store.Store) {
	var want []string
	for range 7 {
		e := login("alice")
		e.At = base
		record(t, s, e)
		want = append(want, e.ID)
	}
	slices.Reverse(want)
	var got []string
	cursor := ""
	for range 10 {
		page, next, err := s.Audit(t.Context(), store.AuditFilter{Limit: 3, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, auditIDs(page)...)
		if next == "" {
			break
		}
		cursor = next
		record(t, s, login("late"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, _, err := s.Audit(t.Context(), store.AuditFilter{Cursor: "x"}); !errors.Is(err, store.ErrCursor) {
		t.Errorf("a cursor of nothing: %v", err)
	}
}

func testPruneAudit(t *testing.T, s store.Store) {
	var entries []store.AuditEntry
	for range 5 {
		entries = append(entries, login("alice"))
	}
	admin := login("")
	admin.Kind, admin.At = store.AdminEntry, entries[0].At
	record(t, s, append(slices.Clone(entries), admin)...)
	for _, want := range []int{2, 1, 0} {
		n, err := s.PruneAudit(t.Context(), store.LoginEntry, entries[3].At, 2)
		if err != nil || n != want {
			t.Errorf("pruned %d, %v; want %d", n, err, want)
		}
	}
	if n, err := s.PruneAudit(t.Context(), store.LoginEntry, time.Now(), 0); n != 0 || err != nil {
		t.Errorf("pruned %d, %v with limit 0", n, err)
	}
	list, err := allAudit(t.Context(), s, store.AuditFilter{})
	if want := []string{entries[4].ID, entries[3].ID, admin.ID}; err != nil || !slices.Equal(auditIDs(list), want) {
		t.Errorf("left: %v, %v; want %v", auditIDs(list), err, want)
	}
	if n, err := s.PruneAudit(t.Context(), store.AdminEntry, entries[3].At, 2); n != 1 || err != nil {
		t.Errorf("pruned %d admin entries, %v", n, err)
	}
}

// testNameOfAProgram finds an entry by a name that tells nothing of the subject.
func testNameOfAProgram(t *testing.T, s store.Store) {
	e := login("alice")
	e.Name = "prog-nightly-abcdefghijklmnopqrstuvwxyz"
	record(t, s, e)
	got, _, err := s.Audit(t.Context(), store.AuditFilter{Name: e.Name})
	if err != nil || len(got) != 1 || got[0].ID != e.ID {
		t.Errorf("found %+v, %v", got, err)
	}
}
