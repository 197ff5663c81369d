package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// edited is the next change of an account, as it is read now.
func edited(t *testing.T, s store.Store, id string) store.AccountChange {
	t.Helper()
	list := accounts(t, s, store.AccountFilter{IDs: []string{id}})
	if len(list) != 1 {
		t.Fatalf("there are %d accounts %s", len(list), id)
	}
	c := store.AccountChange{Account: list[0], Entry: acted("account.exchange", id)}
	c.Account.Revision++
	return c
}

// trade returns a change of the importer that imports from the exporter, and one of the exporter that exports nothing any more, both as
// read before either was made.
func trade(t *testing.T, s store.Store) (imports, exports store.AccountChange) {
	t.Helper()
	imports, exports = edited(t, s, "Aimporter"), edited(t, s, "Aexporter")
	imports.Account.Imports = append(imports.Account.Imports, account.Import{Name: fmt.Sprint("i", imports.Account.Revision), Account: "Aexporter"})
	imports.Exporters = []store.AccountAt{{ID: "Aexporter", Revision: exports.Account.Revision - 1}}
	exports.Account.Exports, exports.Exports = nil, true
	return imports, exports
}

// Of an import and the end of what it imports, each made in ignorance of the other, the later one is told that things have changed.
func testImportsAndExports(t *testing.T, s store.Store) {
	saveAccount(t, s, created("importer", "alice"))
	saveAccount(t, s, created("exporter", "bob"))
	imports, exports := trade(t, s)
	if _, err := s.SaveAccount(t.Context(), imports); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SaveAccount(t.Context(), exports); !errors.Is(err, store.ErrChanged) {
		t.Errorf("exports end under an import: %v", err)
	}
	if is := edited(t, s, "Aexporter").Account; is.Imported != 1 || is.Revision != 2 {
		t.Errorf("the exporter is %+v", is)
	}
	other := edited(t, s, "Aexporter")
	other.Account.Description = "its exports stay"
	other.Account.Imported = 0 // as one that was read before
	saveAccount(t, s, other)

	imports, exports = trade(t, s)
	saveAccount(t, s, exports)
	if _, err := s.SaveAccount(t.Context(), imports); !errors.Is(err, store.ErrChanged) {
		t.Errorf("an import of what has ended: %v", err)
	}
	if is := edited(t, s, "Aexporter").Account; is.Imported != 1 {
		t.Errorf("an import that was refused counts: %+v", is)
	}
	gone := edited(t, s, "Aimporter")
	gone.Exporters = []store.AccountAt{{ID: "Anone", Revision: 1}}
	if _, err := s.SaveAccount(t.Context(), gone); !errors.Is(err, store.ErrChanged) {
		t.Errorf("an import from nobody: %v", err)
	}
}

// Two such changes at the same moment do not wait for each other, and one of them is made.
func testTradesAtOnce(t *testing.T, s store.Store) {
	saveAccount(t, s, created("importer", "alice"))
	saveAccount(t, s, created("exporter", "bob"))
	for range 20 {
		imports, exports := trade(t, s)
		back := edited(t, s, "Aexporter") // imports from the importer, at the same time
		back.Exporters = []store.AccountAt{{ID: "Aimporter", Revision: imports.Account.Revision - 1}}
		errs := make(chan error)
		for _, c := range []store.AccountChange{imports, exports, back} {
			go func() {
				_, err := s.SaveAccount(t.Context(), c)
				errs <- err
			}()
		}
		done := 0
		for range 3 {
			if err := <-errs; err == nil {
				done++
			} else if !errors.Is(err, store.ErrChanged) {
				t.Error(err)
			}
		}
		if done != 1 {
			t.Fatalf("%d of three changes that exclude each other were made", done)
		}
	}
}

// Who has left is forgotten without another revision, and what is saved beside it stays.
func testLeaving(t *testing.T, s store.Store) {
	saveAccount(t, s, created("orders", "alice"))
	c := edited(t, s, "Aorders")
	for _, id := range []string{"1", "2", "3"} {
		c.Account.Leave(account.Left{ID: id, Member: account.Member{ID: "m" + id}, At: base, By: "root"})
	}
	saveAccount(t, s, c)
	if err := s.Settle(t.Context(), "Aorders", []string{"1", "3", "4"}); err != nil {
		t.Fatal(err)
	}
	want := c.Account
	want.Leaving = want.Leaving[1:2]
	if diff := cmp.Diff(want, edited(t, s, "Aorders").Account, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Revision" }, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	if is := edited(t, s, "Aorders").Account; is.Revision != 3 {
		t.Errorf("revision %d, want the next of 2", is.Revision)
	}
	for _, id := range []string{"Aorders", "Anone"} {
		if err := s.Settle(t.Context(), id, []string{"none"}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
