package storetest

import (
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// testMentions: whoever imports from an account is found by its id, without reading all there are.
func testMentions(t *testing.T, s store.Store) {
	exporter, importer, other := created("exporter", "alice"), created("importer", "bob"), created("other", "carol")
	importer.Account.Imports = []account.Import{{Name: "feed", Account: exporter.Account.ID, Subject: "feed", Type: account.StreamType}}
	for _, c := range []store.AccountChange{exporter, importer, other} {
		saveAccount(t, s, c)
	}
	for _, limit := range []int{0, 1} {
		list := accounts(t, s, store.AccountFilter{Mentions: exporter.Account.ID, Limit: limit})
		found := map[string]bool{}
		for _, a := range list {
			found[a.Name] = true
		}
		if !found["importer"] || found["other"] {
			t.Errorf("by %d: found %v", limit, found)
		}
	}
	if list := accounts(t, s, store.AccountFilter{Mentions: "nothing"}); len(list) != 0 {
		t.Errorf("found %v", list)
	}
}
