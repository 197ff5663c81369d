package provision_test

import (
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// What is not written into the claims of an account that was taken over is refused, and not kept for nothing.
func TestAdoptedAccountsStayOthers(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := account.Account{ID: accountIDs[0], Name: "theirs", Plan: "free", State: account.Active, Revision: 1, Applied: 1, Adopted: true, Created: now, Updated: now}
	if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: id, Entry: store.AuditEntry{ID: "01970000-0000-7000-8000-0000000000c1", At: now, Kind: store.AdminEntry, Op: api.OpAccountAdopt, Outcome: "done"}}); err != nil {
		t.Fatal(err)
	}
	root := admin
	if _, err := b.ExportAdd(t.Context(), root, api.ExportAddRequest{Account: "theirs", Export: api.Export{Name: "feed", Subject: "feed.>", Type: "stream"}}); reason(err) != api.ReasonWrongState {
		t.Errorf("an export: %v", err)
	}
	ten := int64(10)
	tiers := &api.LimitsChange{Tiers: map[string]api.JetStreamChange{"R3": {Disk: 1}}}
	if _, err := b.AccountUpdate(t.Context(), root, api.AccountUpdateRequest{Account: "theirs", Revision: 1, Limits: tiers}); reason(err) != api.ReasonWrongState {
		t.Errorf("limits by tier: %v", err)
	}
	if _, err := b.AccountUpdate(t.Context(), root, api.AccountUpdateRequest{Account: "theirs", Revision: 1, Limits: &api.LimitsChange{Exports: &ten}}); reason(err) != api.ReasonWrongState {
		t.Errorf("a limit of exports: %v", err)
	}
	got, err := b.AccountUpdate(t.Context(), root, api.AccountUpdateRequest{Account: "theirs", Revision: 1, Limits: &api.LimitsChange{Connections: &ten}})
	if err != nil || got.Limits.Connections != nil || got.Changed == nil || *got.Changed.Connections != 10 {
		t.Errorf("got %+v, %v", got, err)
	}
}
