package storetest

import (
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// BeatOf0002 is a heartbeat as the release writes it that has the first two migrations, with the current
// time as PostgreSQL says it.
const BeatOf0002 = `INSERT INTO heartbeats (replica, at) VALUES ('old', clock_timestamp())
	ON CONFLICT (replica) DO UPDATE SET at = excluded.at`

// rowsOf0002 are revocations as that release stores them.
func rowsOf0002() []store.Revocation {
	forever, ending, ended, lifted, out := block("forever"), block("forever"), block("ended"), block("lifted"), logout("out")
	ending.Until, ended.Until = base.Add(48*time.Hour), base.Add(time.Minute)
	lifted.LiftedAt, lifted.LiftedBy, lifted.LiftNote = base.Add(time.Minute), "root", "came back"
	list := []store.Revocation{forever, ending, ended, lifted, out}
	for i := range list {
		list[i].At = base.Add(time.Duration(i) * time.Second)
	}
	return list
}

// Before0003 fills a store that has the first two migrations, by statements of the dialect: bytes says
// how it writes bytes in hexadecimal, and at a time. The returned test looks whether all is there after
// the later migrations.
func Before0003(t *testing.T, execute func(string), bytes func(hex string) string, at func(time.Time) string) func(*testing.T, store.Store) {
	t.Helper()
	rows := rowsOf0002()
	when := func(moment time.Time) string {
		if moment.IsZero() {
			return "NULL"
		}
		return at(moment)
	}
	for _, r := range rows {
		execute(fmt.Sprintf(`INSERT INTO revocations (id, kind, principal, issuer, subject, at, until, reason, actor, lifted_at, lifted_by, lift_note)
			VALUES ('%s', '%s', %s, '%s', '%s', %s, %s, '%s', '%s', %s, '%s', '%s')`,
			r.ID, r.Kind, bytes(hex.EncodeToString(row.PrincipalHash(r.Principal))), r.Issuer, r.Subject, when(r.At), when(r.Until),
			r.Reason, r.Actor, when(r.LiftedAt), r.LiftedBy, r.LiftNote))
	}
	execute(`INSERT INTO heartbeats (replica, at) VALUES ('old', ` + at(base) + `)`)
	execute(`INSERT INTO idempotency (key, call, revocation, existing, at) VALUES (` + bytes(hex.EncodeToString(row.KeyHash("key"))) + `, ` +
		bytes(hex.EncodeToString(row.CallHash(rows[0]))) + `, '` + rows[0].ID + `', false, ` + at(base) + `)`)
	return func(t *testing.T, s store.Store) { testMigrated(t, s, rows) }
}

func testMigrated(t *testing.T, s store.Store, rows []store.Revocation) {
	list, err := allRevocations(t.Context(), s, store.RevocationFilter{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(list)
	if diff := cmp.Diff(rows, list); diff != "" {
		t.Error(diff)
	}
	forever, ending, lifted, out := rows[0], rows[1], rows[3], rows[4]
	want := map[string]policy.Revocation{forever.ID: forever.Revocation, ending.ID: ending.Revocation, out.ID: out.Revocation}
	if diff := cmp.Diff(want, byID(load(t, s).Revocations)); diff != "" {
		t.Error(diff)
	}
	unfinished, err := s.Unfinished(t.Context(), 0)
	if got := revocationIDs(unfinished); err != nil || !slices.Equal(got, []string{out.ID, ending.ID, forever.ID}) {
		t.Errorf("unfinished: %v, %v", got, err)
	}
	for _, r := range []store.Revocation{forever, ending} {
		again := block(r.Subject)
		again.Until = r.Until
		if got, existing, err := s.Revoke(t.Context(), again, ""); !existing || err != nil || got.ID != r.ID {
			t.Errorf("asked for again: %s, existing %t, %v", got.ID, existing, err)
		}
	}
	if first, existing, err := s.Revoke(t.Context(), block("forever"), "key"); existing || err != nil || first.ID != forever.ID {
		t.Errorf("the key of before: %s, existing %t, %v", first.ID, existing, err)
	}
	revoke(t, s, block(lifted.Subject))
	if r := lift(t, s, forever.ID); r.Position != load(t, s).Position {
		t.Errorf("the lift is at %v", r.Position)
	}
	if r := replicas(t, s); len(r) != 1 || r[0].MaxStaleness != store.DefaultMaxStaleness || r[0].Applied != (store.Position{}) || !r[0].At.Equal(base) {
		t.Errorf("replicas: %+v", r)
	}
}
