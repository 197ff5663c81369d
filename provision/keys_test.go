package provision_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// sealKey returns a new sealing key.
func sealKey(t testing.TB) *seal.Key {
	t.Helper()
	k, err := seal.ParseKey([]byte(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keyBed is a bed of accounts whose seeds were sealed with an older key.
type keyBed struct {
	*accountBed
	older, newer *seal.Key
}

// stores are the changes of a bed that give it each kind of store.
func stores() map[string]func(t testing.TB) func(*provision.Options) {
	return map[string]func(t testing.TB) func(*provision.Options){
		"sqlite": func(testing.TB) func(*provision.Options) { return func(*provision.Options) {} },
		"postgres": func(t testing.TB) func(*provision.Options) {
			s, err := postgres.Open(t.Context(), postgres.Options{DSN: storetest.Postgres(t, postgres.Migrate)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return func(o *provision.Options) { o.Store = s }
		},
	}
}

// onBothStores runs the test on each kind of store.
func onBothStores(t *testing.T, test func(t *testing.T, b *keyBed)) {
	for name, open := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newKeyBed(t, open(t)))
		})
	}
}

func newKeyBed(t testing.TB, change ...func(*provision.Options)) *keyBed {
	t.Helper()
	b := &keyBed{older: sealKey(t), newer: sealKey(t)}
	b.accountBed = newAccountBed(t, append(change, func(o *provision.Options) {
		o.Keys = &provision.Keys{
			Seal: func() *seal.Ring { return b.ring }, Operator: func() string { return "OPERATOR" },
			Configured: func() []api.ConfiguredKey {
				return []api.ConfiguredKey{{Key: "AKEY", Path: "nats.callout.signing_key"}}
			},
		}
	})...)
	b.ring = seal.NewRing(b.older)
	return b
}

// fill stores accounts, each with a key that the older key has sealed, and returns the seeds.
func (b *keyBed) fill(t testing.TB, names ...string) (seeds [][]byte) {
	t.Helper()
	for _, name := range names {
		pair, err := nkeys.CreateAccount()
		if err != nil {
			t.Fatal(err)
		}
		public, _ := pair.PublicKey()
		seed, _ := pair.Seed()
		seeds = append(seeds, seed)
		row := store.SealedKey{Public: public, Account: "A-" + name}
		row.Box = seal.NewRing(b.older).Seal(seed, row.Row())
		a := account.Account{
			ID: row.Account, Name: name, State: account.Active, Plan: "free", Revision: 1, Applied: 1, Created: now, Updated: now,
			Owner: account.Person{Principal: policy.Principal{Issuer: corp, Subject: "alice"}},
			Keys:  []account.SigningKey{{Public: public, Stage: account.Current, Since: now}},
		}
		if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: a, Keys: []store.SealedKey{row}, Entry: store.AuditEntry{
			ID: "e-" + name, At: now, Kind: store.AdminEntry, Outcome: "done", Op: "test",
		}}); err != nil {
			t.Fatal(err)
		}
	}
	return seeds
}

func (b *keyBed) list(t testing.TB, req api.KeysRequest) (all []api.SigningKey) {
	t.Helper()
	for {
		page, err := b.KeysList(t.Context(), admin, req)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Keys...)
		if req.Cursor = page.Next; page.Next == "" {
			return all
		}
	}
}

// resealAll goes over all seeds and returns what was done.
func (b *keyBed) resealAll(t testing.TB) (total api.Resealed) {
	t.Helper()
	req := api.ResealRequest{}
	for {
		page, err := b.KeysReseal(t.Context(), admin, req)
		if err != nil {
			t.Fatal(err)
		}
		total.Resealed += page.Resealed
		total.Already += page.Already
		total.Left = append(total.Left, page.Left...)
		if req.Cursor = page.Next; page.Next == "" {
			return total
		}
	}
}

func TestKeysList(t *testing.T) {
	t.Parallel()
	onBothStores(t, testKeysList)
}

func testKeysList(t *testing.T, b *keyBed) {
	seeds := b.fill(t, "b", "a", "c")
	page, err := b.KeysList(t.Context(), admin, api.KeysRequest{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if page.Operator != "OPERATOR" || page.SealingKey != b.older.ID() || len(page.Configured) != 1 || len(page.Keys) != 2 || page.Next == "" {
		t.Errorf("got %+v", page)
	}
	all := b.list(t, api.KeysRequest{Limit: 2})
	var names []string
	for _, k := range all {
		names = append(names, k.Account)
		if k.SealedWith != b.older.ID() || k.Problem != "" || k.Stage != "current" || !k.Since.Equal(now) {
			t.Errorf("got %+v", k)
		}
	}
	if strings.Join(names, " ") != "a b c" {
		t.Errorf("accounts %q", names)
	}
	if one := b.list(t, api.KeysRequest{Account: "b"}); len(one) != 1 || one[0].AccountID != "A-b" {
		t.Errorf("of one account: %+v", one)
	}
	for name, ring := range map[string]*seal.Ring{"another key": seal.NewRing(b.newer), "no key": nil} {
		b.ring = ring
		for _, k := range b.list(t, api.KeysRequest{}) {
			if k.Problem == "" || k.SealedWith != b.older.ID() {
				t.Errorf("with %s: %+v", name, k)
			}
		}
	}
	for _, seed := range seeds {
		if strings.Contains(fmt.Sprint(page, all), string(seed)) {
			t.Error("a seed is shown")
		}
	}
	_, err = b.KeysList(t.Context(), admin, api.KeysRequest{Account: "nobody"})
	wantError(t, err, http.StatusNotFound, api.ReasonNotFound)
	_, err = b.KeysList(t.Context(), admin, api.KeysRequest{Limit: 501})
	wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
	_, err = b.KeysList(t.Context(), caller("alice"), api.KeysRequest{})
	wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
}

func TestKeysReseal(t *testing.T) {
	t.Parallel()
	onBothStores(t, testKeysReseal)
}

func testKeysReseal(t *testing.T, b *keyBed) {
	var names []string
	for i := range 260 { // more than one call seals anew
		names = append(names, fmt.Sprintf("a%03d", i))
	}
	seeds := b.fill(t, names...)
	b.ring = seal.NewRing(b.newer, b.older)
	first, err := b.KeysReseal(t.Context(), admin, api.ResealRequest{})
	if err != nil || first.Resealed != 250 || first.Next == "" || first.SealingKey != b.newer.ID() {
		t.Fatalf("got %+v, %v", first, err)
	}
	// Somebody stopped here, and starts again.
	if got := b.resealAll(t); got.Resealed != 10 || got.Already != 250 || len(got.Left) != 0 {
		t.Errorf("started again: %d anew, %d were already, left %v", got.Resealed, got.Already, got.Left)
	}
	if got := b.resealAll(t); got.Resealed != 0 || got.Already != 260 {
		t.Errorf("once more: %+v", got)
	}
	rows, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{Accounts: []string{"A-a007"}})
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	// The old key can go.
	if seed, err := seal.NewRing(b.newer).Open(rows[0].Box, rows[0].Row()); err != nil || !bytes.Equal(seed, seeds[7]) {
		t.Errorf("it does not open to the seed that it was: %v", err)
	}
	entries, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Op: api.OpKeysReseal, Outcome: "done"})
	if err != nil || len(entries) != 2 || entries[1].Detail != "seeds sealed anew: 250" {
		t.Errorf("audit: %+v, %v", entries, err)
	}
}

func TestKeysResealLeavesWhatItCannotOpen(t *testing.T) {
	t.Parallel()
	onBothStores(t, testKeysResealLeavesWhatItCannotOpen)
}

func testKeysResealLeavesWhatItCannotOpen(t *testing.T, b *keyBed) {
	b.fill(t, "orders", "billing", "stock")
	move := func(to, from string) {
		t.Helper()
		rows, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{Accounts: []string{"A-" + to, "A-" + from}})
		if err != nil || len(rows) != 2 {
			t.Fatal(rows, err)
		}
		victim, other := rows[0], rows[1]
		if victim.Account != "A-"+to {
			victim, other = other, victim
		}
		before := victim.Box
		victim.Box = other.Box
		if err := b.Store.Reseal(t.Context(), victim, before); err != nil {
			t.Fatal(err)
		}
	}
	move("orders", "billing") // the box of another row must not be sealed for this one
	b.ring = seal.NewRing(b.newer, b.older)
	got := b.resealAll(t)
	if got.Resealed != 2 || len(got.Left) != 1 || got.Left[0].AccountID != "A-orders" || got.Left[0].SealedWith != b.older.ID() {
		t.Errorf("got %+v", got)
	}
	for _, k := range b.list(t, api.KeysRequest{}) {
		if (k.Problem != "") != (k.Account == "orders") {
			t.Errorf("got %+v", k)
		}
	}
	b.ring = seal.NewRing(sealKey(t))
	if got := b.resealAll(t); got.Resealed != 0 || len(got.Left) != 3 {
		t.Errorf("without the keys: %+v", got)
	}
	b.ring = nil
	_, err := b.KeysReseal(t.Context(), admin, api.ResealRequest{})
	wantError(t, err, http.StatusConflict, api.ReasonSealMissing)
	_, err = b.KeysReseal(t.Context(), caller("alice"), api.ResealRequest{})
	wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
}
