package storetest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var accountTests = map[string]func(*testing.T, store.Store){
	"SaveAndChange":     testSaveAccount,
	"NamesAreOnce":      testAccountNames,
	"NotMoreThanMost":   testMostAccounts,
	"NotMoreAtOnce":     testMostAccountsAtOnce,
	"NotMoreMadeAtOnce": testMostMadeAtOnce,
	"AnsweredOnce":      testAnsweredOnce,
	"Remembered":        testRemembered,
	"RememberedAtOnce":  testRememberedAtOnce,
	"Filters":           testAccountFilters,
	"Mentions":          testMentions,
	"MarkApplied":       testMarkApplied,
	"AppliedMeanwhile":  testAppliedMeanwhile,
	"InFeedAndState":    testAccountFeed,
	"SealedKeys":        testSealedKeys,
	"ServedClaims":      testServedClaims,
	"Published":         testPublished,
	"OperatorKey":       testOperatorKey,
	"ImportsAndExports": testImportsAndExports,
	"TradesAtOnce":      testTradesAtOnce,
	"Leaving":           testLeaving,
	"AuditedAndPruned":  testAccountAudit,
	"ChangedAtOnce":     testAccountAtOnce,
	"DeletedAreNoMore":  testDeletedAccount,
	"RevocationsBeside": testAccountsBesideRevocations,
	"ClosedAndOpened":   testClosedWithRecord,
	"NothingOfAChange":  testNothingOfARefusedChange,
}

// created returns a change that makes an account.
func created(name, owner string) store.AccountChange {
	a := account.Account{
		ID: "A" + name, Name: name, State: account.Creating, Plan: "free", Revision: 1,
		Owner:   account.Person{Principal: policy.Principal{Issuer: issuer, Subject: owner}, Name: "corp-" + owner},
		Created: base, Updated: base,
	}
	return store.AccountChange{Account: a, Entry: acted("account.signup", name)}
}

func acted(op, target string) store.AuditEntry {
	return store.AuditEntry{ID: newID(), At: base, Kind: store.AdminEntry, Outcome: "done", Reason: "asked", Actor: "root", Op: op, Target: target}
}

func saveAccount(t *testing.T, s store.Store, c store.AccountChange) {
	t.Helper()
	if _, err := s.SaveAccount(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func accounts(t *testing.T, s store.Store, f store.AccountFilter) []account.Account {
	t.Helper()
	list, err := pages(func(cursor string) ([]account.Account, string, error) {
		f.Cursor = cursor
		return s.Accounts(t.Context(), f)
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func names(list []account.Account) []string {
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
	}
	return names
}

func testSaveAccount(t *testing.T, s store.Store) {
	c := created("Orders", "alice")
	c.Account.Description = "odd \x00 text \\"
	saveAccount(t, s, c)
	c.Account.Revision, c.Account.Description = 2, "orders"
	c.Entry = acted("account.update", "Orders")
	saveAccount(t, s, c)
	if diff := cmp.Diff([]account.Account{c.Account}, accounts(t, s, store.AccountFilter{Name: "oRDERS"})); diff != "" {
		t.Error(diff)
	}
	for _, revision := range []int64{2, 4} {
		c.Account.Revision, c.Entry = revision, acted("account.update", "Orders")
		if _, err := s.SaveAccount(t.Context(), c); !errors.Is(err, store.ErrChanged) {
			t.Errorf("revision %d over 2: %v", revision, err)
		}
	}
}

func testAccountNames(t *testing.T, s store.Store) {
	saveAccount(t, s, created("Orders", "alice"))
	c := created("ORDERS", "bob")
	if _, err := s.SaveAccount(t.Context(), c); !errors.Is(err, store.ErrTaken) {
		t.Errorf("the same name in capitals: %v", err)
	}
	c = created("other", "bob")
	c.Account.ID = "AOrders"
	if _, err := s.SaveAccount(t.Context(), c); !errors.Is(err, store.ErrTaken) {
		t.Errorf("the same id: %v", err)
	}
	c = created("other", "bob")
	saveAccount(t, s, c)
	c.Account.Name, c.Account.Revision, c.Entry = "orders", 2, acted("account.update", "other")
	if _, err := s.SaveAccount(t.Context(), c); !errors.Is(err, store.ErrTaken) {
		t.Errorf("renamed to it: %v", err)
	}
}

func testMostAccounts(t *testing.T, s store.Store) {
	for i, want := range []error{nil, nil, store.ErrTooMany} {
		c := created(fmt.Sprint("a", i), "alice")
		c.Most = 2
		if _, err := s.SaveAccount(t.Context(), c); !errors.Is(err, want) {
			t.Errorf("account %d of 2: %v", i+1, err)
		}
	}
	c := created("b", "bob")
	c.Most = 2
	saveAccount(t, s, c)
}

func testMostAccountsAtOnce(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			c := created(fmt.Sprint("a", i), "alice")
			c.Most = 3
			_, errs[i] = s.SaveAccount(t.Context(), c)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, store.ErrTooMany) {
			t.Error(err)
		}
	}
	if n := len(accounts(t, s, store.AccountFilter{})); n != 3 {
		t.Errorf("%d accounts where 3 are allowed", n)
	}
}

// What bindings have made is counted each by itself, but for what is deleted, and exactly however many come at once.
func testMostMadeAtOnce(t *testing.T, s store.Store) {
	const most = 5
	made := func(name, binding string) store.AccountChange {
		c := created(name, "")
		c.Account.Owner = account.Person{}
		c.Account.Origin = &account.Origin{Origin: policy.Origin{Issuer: issuer, Template: "{{claim.team}}", Claims: fmt.Sprintf("[%q]", name)}, Binding: binding}
		c.MostMade = most
		return c
	}
	saveAccount(t, s, created("signed-up", "alice"))
	saveAccount(t, s, made("other", "others"))
	round := func(n, want int) {
		t.Helper()
		var wg sync.WaitGroup
		errs := make([]error, n)
		for i := range errs {
			c := made(fmt.Sprintf("a%d-%d", n, i), "teams")
			if i%4 == 1 {
				c.Account.Owner, c.Most = account.Person{Principal: policy.Principal{Issuer: issuer, Subject: fmt.Sprint("u", n, i)}}, 1
			}
			wg.Go(func() { _, errs[i] = s.SaveAccount(t.Context(), c) })
		}
		wg.Wait()
		stored := 0
		for _, err := range errs {
			if err == nil {
				stored++
			} else if !errors.Is(err, store.ErrTooManyMade) {
				t.Error(err)
			}
		}
		if stored != want {
			t.Errorf("%d of %d were stored, want %d", stored, n, want)
		}
	}
	round(20, most)
	round(3, 0)
	list := accounts(t, s, store.AccountFilter{})
	for i := range list {
		c := store.AccountChange{Account: list[i], Entry: acted("account.update", list[i].Name)}
		c.Account.Revision++
		if c.Account.Name == list[0].Name { // one of the binding's
			c.Account.State = account.Deleted
		}
		saveAccount(t, s, c) // no other change is counted, or forgets who made it
	}
	round(7, 1)
	round(2, 0)
	saveAccount(t, s, made("another", "others"))
}

func call(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func testAccountFilters(t *testing.T, s store.Store) {
	for _, c := range []struct {
		name, owner, plan string
		state             account.State
		applied           int64
	}{
		{"c", "alice", "free", account.Creating, 0},
		{"a", "alice", "big", account.Active, 1},
		{"b", "bob", "free", account.Requested, 0},
		{"d", "bob", "free", account.Deleted, 0},
	} {
		change := created(c.name, c.owner)
		change.Account.Plan, change.Account.State, change.Account.Applied = c.plan, c.state, c.applied
		saveAccount(t, s, change)
	}
	for _, c := range []struct {
		filter store.AccountFilter
		want   []string
	}{
		{store.AccountFilter{}, []string{"a", "b", "c"}},
		{store.AccountFilter{Limit: 1}, []string{"a", "b", "c"}},
		{store.AccountFilter{Deleted: true}, []string{"a", "b", "c", "d"}},
		{store.AccountFilter{State: account.Deleted}, []string{"d"}},
		{store.AccountFilter{State: account.Requested}, []string{"b"}},
		{store.AccountFilter{Plan: "free"}, []string{"b", "c"}},
		{store.AccountFilter{Owner: policy.Principal{Issuer: issuer, Subject: "alice"}}, []string{"a", "c"}},
		{store.AccountFilter{IDs: []string{"Aa", "Ac", "Ad", "Ax"}}, []string{"a", "c"}},
		{store.AccountFilter{Unapplied: true}, []string{"c"}},
		{store.AccountFilter{Name: "A"}, []string{"a"}},
	} {
		if diff := cmp.Diff(c.want, names(accounts(t, s, c.filter))); diff != "" {
			t.Errorf("%+v: %s", c.filter, diff)
		}
	}
	if _, _, err := s.Accounts(t.Context(), store.AccountFilter{Cursor: "!"}); !errors.Is(err, store.ErrCursor) {
		t.Errorf("a cursor of nobody: %v", err)
	}
}

func testMarkApplied(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	saveAccount(t, s, c)
	mark := func(applied ...store.Applied) account.Account {
		t.Helper()
		if err := s.MarkApplied(t.Context(), applied); err != nil {
			t.Fatal(err)
		}
		return accounts(t, s, store.AccountFilter{})[0]
	}
	if a := mark(store.Applied{ID: "Aorders", Revision: 2}, store.Applied{ID: "Anone", Revision: 1}); a.Applied != 0 || a.State != account.Creating {
		t.Errorf("a revision that there is not: %+v", a)
	}
	a := mark(store.Applied{ID: "Aorders", Revision: 1, Issued: 7, Signer: "O1", Given: &account.Limits{Connections: 7}})
	if a.Applied != 1 || a.State != account.Active || a.Revision != 1 || a.Issued != 7 || a.Given == nil || a.Given.Connections != 7 {
		t.Errorf("got %+v", a)
	}
	if a := mark(store.Applied{ID: "Aorders", Revision: 1, Issued: 6, Signer: "O2", Given: &account.Limits{Connections: 6}}); a.Issued != 7 || a.Signer != "O1" || a.Given.Connections != 7 {
		t.Errorf("claims from before: %+v", a)
	}
	if a = mark(store.Applied{ID: "Aorders", Revision: 1, Issued: 9, Signer: "O3", Given: &account.Limits{Connections: 9}}); a.Issued != 9 || a.Signer != "O3" || a.Given.Connections != 9 {
		t.Errorf("the same revision signed anew: %+v", a)
	}
	a.Revision, c.Account, c.Entry = 2, a, acted("account.update", "orders")
	c.Account.Revision = 2
	saveAccount(t, s, c)
	if a := mark(store.Applied{ID: "Aorders", Revision: 2}); a.Applied != 2 {
		t.Errorf("got %+v", a)
	}
	if a := mark(store.Applied{ID: "Aorders", Revision: 1}); a.Applied != 2 {
		t.Errorf("an older one: %+v", a)
	}
	page, _, _, err := s.Arrivals(t.Context(), store.AuditFilter{Op: "account.active"})
	if err != nil || len(page) != 1 {
		t.Fatalf("that it is active is recorded %d times: %v", len(page), err)
	}
	if e := page[0]; e.Target != "Aorders" || e.Account != "orders" || e.Revision != 1 || e.State != string(account.Active) {
		t.Errorf("recorded %+v", e)
	}
}

// Where servers store nothing an account is published, and what it is follows what the servers are.
func testPublished(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	saveAccount(t, s, c)
	for _, step := range []struct {
		applied store.Applied
		want    account.State
	}{
		{store.Applied{ID: "Aorders", Revision: 1, Issued: 7, Published: true}, account.Published},
		{store.Applied{ID: "Aorders", Revision: 1, Issued: 7}, account.Active},
		{store.Applied{ID: "Aorders", Revision: 1, Issued: 7, Published: true}, account.Published},
	} {
		if err := s.MarkApplied(t.Context(), []store.Applied{step.applied}); err != nil {
			t.Fatal(err)
		}
		if a := accounts(t, s, store.AccountFilter{State: step.want}); len(a) != 1 || !a[0].State.InUse() || !a[0].Entry().Open {
			t.Errorf("%+v made it %+v", step.applied, a)
		}
	}
	for op, want := range map[string]int{"account.active": 1, "account.published": 2} {
		page, _, _, err := s.Arrivals(t.Context(), store.AuditFilter{Op: op})
		if err != nil || len(page) != want {
			t.Errorf("%s is recorded %d times: %v", op, len(page), err)
		}
	}
	c.Account.Revision, c.Account.State, c.Entry = 2, account.Active, acted("account.update", "orders") // read before
	saveAccount(t, s, c)
	if a := accounts(t, s, store.AccountFilter{})[0]; a.State != account.Published {
		t.Errorf("a change made it %s", a.State)
	}
}

// Whoever changes what they have read before it was applied does not undo that.
func testAppliedMeanwhile(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	saveAccount(t, s, c)
	if err := s.MarkApplied(t.Context(), []store.Applied{{ID: c.Account.ID, Revision: 1}}); err != nil {
		t.Fatal(err)
	}
	c.Account.Revision, c.Account.Description, c.Entry = 2, "orders", acted("account.update", "orders")
	saveAccount(t, s, c)
	if a := accounts(t, s, store.AccountFilter{})[0]; a.State != account.Active || a.Applied != 1 || a.Description != "orders" {
		t.Errorf("got %+v", a)
	}
}

func testAccountFeed(t *testing.T, s store.Store) {
	before, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	saveAccount(t, s, created("orders", "alice"))
	gone := created("gone", "alice")
	gone.Account.State = account.Deleted
	saveAccount(t, s, gone)
	if err := s.MarkApplied(t.Context(), []store.Applied{{ID: "Aorders", Revision: 1}}); err != nil {
		t.Fatal(err)
	}
	changes, next, err := s.Changes(t.Context(), before.Position, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprint(c.Account.Name, " ", c.Account.State))
	}
	if diff := cmp.Diff([]string{"orders active", "gone deleted", "orders active"}, got); diff != "" {
		t.Error(diff)
	}
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"orders"}, names(state.Accounts)); diff != "" || state.Position != next {
		t.Errorf("at %+v, want %+v: %s", state.Position, next, diff)
	}
}

func testSealedKeys(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	c.Keys = []store.SealedKey{{Public: "AK1", Account: "Aorders", Box: []byte("one")}, {Public: "AK2", Account: "Aorders", Box: []byte("two")}}
	saveAccount(t, s, c)
	other := created("other", "alice")
	other.Keys = []store.SealedKey{{Public: "AK3", Account: "Aother", Box: []byte("three")}}
	saveAccount(t, s, other)
	list := func(f store.SealedKeyFilter) []store.SealedKey {
		t.Helper()
		list, err := pages(func(cursor string) ([]store.SealedKey, string, error) {
			f.Cursor = cursor
			return s.SealedKeys(t.Context(), f)
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if diff := cmp.Diff(append(c.Keys, other.Keys...), list(store.SealedKeyFilter{Limit: 2})); diff != "" {
		t.Error(diff)
	}
	if err := s.Reseal(t.Context(), store.SealedKey{Public: "AK1", Box: []byte("new")}, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.Reseal(t.Context(), store.SealedKey{Public: "AK1", Box: []byte("newer")}, []byte("one")); !errors.Is(err, store.ErrChanged) {
		t.Errorf("over another box: %v", err)
	}
	c.Account.Revision, c.Keys, c.DropKeys, c.Entry = 2, nil, []string{"AK2", "AK3"}, acted("account.keys", "orders")
	saveAccount(t, s, c)
	want := []store.SealedKey{{Public: "AK1", Account: "Aorders", Box: []byte("new")}}
	if diff := cmp.Diff(want, list(store.SealedKeyFilter{Accounts: []string{"Aorders"}})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(other.Keys, list(store.SealedKeyFilter{Accounts: []string{"Aother"}})); diff != "" {
		t.Errorf("another account's key: %s", diff)
	}
}

// There is one operator key at most, however many are given at once, and keys of accounts stay as they are.
func testOperatorKey(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	c.Keys = []store.SealedKey{{Public: "AK1", Account: "Aorders", Box: []byte("one")}}
	saveAccount(t, s, c)
	kept := func() []store.SealedKey {
		t.Helper()
		list, _, err := s.SealedKeys(t.Context(), store.SealedKeyFilter{Accounts: []string{store.OfOperator}})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if err := s.SetOperatorKey(t.Context(), nil, acted("keys.operator.remove", "")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("none to give up: %v", err)
	}
	errs := make(chan error)
	for i := range 4 {
		k := store.SealedKey{Public: fmt.Sprint("OK", i), Box: []byte{byte(i + 1)}}
		go func() { errs <- s.SetOperatorKey(t.Context(), &k, acted("keys.operator.import", k.Public)) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if list := kept(); len(list) != 1 {
		t.Fatalf("kept %v", list)
	}
	last := store.SealedKey{Public: "OK1", Box: []byte("last")}
	for range 2 {
		if err := s.SetOperatorKey(t.Context(), &last, acted("keys.operator.import", last.Public)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]store.SealedKey{last}, kept()); diff != "" {
		t.Error(diff)
	}
	if err := s.Reseal(t.Context(), store.SealedKey{Public: "OK1", Box: []byte("anew")}, last.Box); err != nil {
		t.Fatal(err)
	}
	if err := s.SetOperatorKey(t.Context(), nil, acted("keys.operator.remove", "OK1")); err != nil || len(kept()) != 0 {
		t.Errorf("kept %v, %v", kept(), err)
	}
	list, _, err := s.SealedKeys(t.Context(), store.SealedKeyFilter{})
	if diff := cmp.Diff(c.Keys, list); diff != "" || err != nil {
		t.Error(diff, err)
	}
	trail, _, err := s.Audit(t.Context(), store.AuditFilter{Op: "keys.operator.import"})
	if err != nil || len(trail) != 6 {
		t.Errorf("%d entries, %v", len(trail), err)
	}
}

func testAccountAudit(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	c.Once = &store.Once{Key: "k", Call: call("orders"), Answer: json.RawMessage(`{}`)}
	saveAccount(t, s, c)
	list, _, err := s.Audit(t.Context(), store.AuditFilter{Op: "account.signup"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.AuditEntry{c.Entry}, list, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if err := s.PruneFeed(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if first, err := s.Answer(t.Context(), "k", call("orders")); err != nil || first != nil {
		t.Errorf("the answer is still there: %s, %v", first, err)
	}
}

func testAccountAtOnce(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	saveAccount(t, s, c)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			mine := c
			mine.Account.Revision, mine.Account.Description, mine.Entry = 2, fmt.Sprint(i), acted("account.update", "orders")
			_, errs[i] = s.SaveAccount(t.Context(), mine)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, store.ErrChanged):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of the changes of one revision were stored", won)
	}
}

func testDeletedAccount(t *testing.T, s store.Store) {
	c := created("orders", "alice")
	c.Most = 1
	saveAccount(t, s, c)
	c.Account.Revision, c.Account.State, c.Most, c.Entry = 2, account.Deleted, 0, acted("account.delete", "orders")
	saveAccount(t, s, c)
	again := created("orders", "alice")
	again.Most = 1
	if _, err := s.SaveAccount(t.Context(), again); !errors.Is(err, store.ErrTaken) {
		t.Errorf("the id of a deleted account: %v", err)
	}
	again.Account.ID = "Aagain"
	saveAccount(t, s, again)
	if diff := cmp.Diff([]string{"orders", "orders"}, names(accounts(t, s, store.AccountFilter{Deleted: true}))); diff != "" {
		t.Error(diff)
	}
}

func testAccountsBesideRevocations(t *testing.T, s store.Store) {
	before, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Revoke(t.Context(), block("alice"), ""); err != nil {
		t.Fatal(err)
	}
	saveAccount(t, s, created("orders", "alice"))
	changes, _, err := s.Changes(t.Context(), before.Position, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 2 || changes[0].Account != nil || changes[0].Revocation.Revocation.Subject != "alice" || changes[1].Account == nil || changes[1].Revocation.Revocation.ID != "" {
		t.Errorf("got %+v", changes)
	}
}
